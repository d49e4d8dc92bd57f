"""Persimmon: measured as a reference across releases; TransformerLens has no bridge for it."""

from harness.models.families import every_variant

CASES = every_variant("persimmon")
