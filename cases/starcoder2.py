"""StarCoder2."""

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    BRIDGE,
    RESID_MID_MISSES,
    in_what_follows,
)
from harness.case import Limitation
from harness.models.families import every_variant

EPSILON_UNREAD = Limitation(
    outcome="differs",
    sites=("blocks.0.ln1.out",),
    reason="the bridge does not read norm_epsilon, and divides by 1e-5",
    link="docs/findings/starcoder2-norm-epsilon-not-read.md",
    until=AFTER_TRANSFORMER_LENS,
    variants=("off_default",),
    loading_modes=BRIDGE,
    dtypes=("exact", "float32"),  # below the rounding of bfloat16
)

CASES = every_variant(
    "starcoder2", RESID_MID_MISSES, EPSILON_UNREAD, in_what_follows(EPSILON_UNREAD)
)
