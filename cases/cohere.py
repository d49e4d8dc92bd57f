"""Cohere: attention and MLP side by side."""

from cases.limitations import value_bias_of_groups
from harness.models.families import every_variant

CASES = every_variant("cohere", value_bias_of_groups("attention_bias"))
