"""GPT-2, tiny and in the real shape of gpt2-small."""

from cases.limitations import (
    POSITIONS_NOT_COUNTED,
    RESID_MID_MISSES,
    in_what_follows,
    scale_ignored,
)
from harness.case import Case
from harness.models.families import every_variant

CASES = (
    *every_variant(
        "gpt2",
        POSITIONS_NOT_COUNTED,
        RESID_MID_MISSES,
        scale_ignored("unscaled"),
        in_what_follows(scale_ignored("unscaled")),
    ),
    Case(
        family="gpt2",
        checkpoint="synthetic:gpt2-small",
        limitations=(POSITIONS_NOT_COUNTED, RESID_MID_MISSES),
    ),
)
