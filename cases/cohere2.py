"""Cohere 2: attention and MLP side by side, a window in some layers."""

from cases.limitations import value_bias_of_groups
from harness.models.families import every_variant

CASES = every_variant("cohere2", value_bias_of_groups("attention_bias"))
