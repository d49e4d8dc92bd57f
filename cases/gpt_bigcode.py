"""GPTBigCode: GPT-2 with one key-value head. The bridge refuses the variant with many."""

from cases.limitations import refactor_cannot_read_biases, scale_ignored, value_bias_of_groups
from harness.models.families import every_variant

CASES = every_variant(
    "gpt_bigcode",
    scale_ignored("unscaled"),
    refactor_cannot_read_biases("default", "unscaled"),
    value_bias_of_groups("default", "unscaled"),
)
