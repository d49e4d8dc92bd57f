"""MPT: ALiBi, and no bias anywhere."""

from cases.limitations import REFACTOR_NEEDS_QUERY_BIASES
from harness.models.families import every_variant

CASES = every_variant("mpt", REFACTOR_NEEDS_QUERY_BIASES)
