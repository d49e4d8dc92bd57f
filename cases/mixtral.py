"""Mixtral, its experts dense."""

from harness.models.families import every_variant

CASES = every_variant("mixtral")
