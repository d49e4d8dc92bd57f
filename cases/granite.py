"""Granite: Llama with four multipliers."""

from cases.limitations import value_bias_of_groups
from harness.models.families import every_variant

CASES = every_variant("granite", value_bias_of_groups("biases"))
