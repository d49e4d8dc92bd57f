"""GPT-Neo: global and windowed attention in turn, without biases on queries, keys and values."""

from cases.limitations import (
    PATTERN_AS_SCORES,
    PATTERN_DISCARDED,
    POSITIONS_NOT_COUNTED,
    REFACTOR_NEEDS_QUERY_BIASES,
    RESID_MID_MISSES,
)
from harness.models.families import every_variant

CASES = every_variant(
    "gpt_neo",
    POSITIONS_NOT_COUNTED,
    PATTERN_AS_SCORES,
    PATTERN_DISCARDED,
    RESID_MID_MISSES,
    REFACTOR_NEEDS_QUERY_BIASES,
)
