"""GPT-J: rotary on a part of each head, or on all of it."""

from cases.limitations import (
    PATTERN_AS_SCORES,
    PATTERN_DISCARDED,
    silent_rotary_hooks,
)
from harness.models.families import every_variant

CASES = every_variant("gptj", PATTERN_AS_SCORES, PATTERN_DISCARDED, silent_rotary_hooks())
