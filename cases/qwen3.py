"""Qwen3."""

from cases.limitations import value_bias_of_groups
from harness.models.families import every_variant

CASES = every_variant("qwen3", value_bias_of_groups("biases"))
