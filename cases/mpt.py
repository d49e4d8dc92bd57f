"""MPT: ALiBi, and no bias anywhere."""

from cases.limitations import (
    REFACTOR_NEEDS_QUERY_BIASES,
    RESID_MID_MISSES,
)
from harness.models.families import every_variant

CASES = every_variant("mpt", RESID_MID_MISSES, REFACTOR_NEEDS_QUERY_BIASES)
