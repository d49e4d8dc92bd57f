"""Qwen2."""

from harness.models.families import every_variant

CASES = every_variant("qwen2")
