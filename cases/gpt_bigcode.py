"""GPTBigCode: GPT-2 with one key-value head. The bridge refuses the variant with many."""

from cases.limitations import (
    POSITIONS_NOT_COUNTED,
    RESID_MID_MISSES,
    in_what_follows,
    refactor_cannot_read_biases,
    scale_ignored,
    value_bias_of_groups,
)
from harness.models.families import every_variant

CASES = every_variant(
    "gpt_bigcode",
    POSITIONS_NOT_COUNTED,
    RESID_MID_MISSES,
    scale_ignored("unscaled"),
    in_what_follows(scale_ignored("unscaled")),
    refactor_cannot_read_biases("default", "unscaled", "off_default"),
    value_bias_of_groups("default", "unscaled", "off_default"),
)
