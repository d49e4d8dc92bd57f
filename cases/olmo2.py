"""OLMo 2."""

from cases.limitations import RESID_MID_MISSES
from harness.models.families import every_variant

CASES = every_variant("olmo2", RESID_MID_MISSES)
