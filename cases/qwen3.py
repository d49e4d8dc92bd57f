"""Qwen3."""

from cases.limitations import (
    RESID_MID_MISSES,
    value_bias_of_groups,
)
from harness.models.families import every_variant

CASES = every_variant("qwen3", RESID_MID_MISSES, value_bias_of_groups("biases"))
