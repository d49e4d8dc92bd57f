"""Upgrades that are known to have changed numbers, asked again: `make known-regressions`."""
