"""GLM, which ChatGLM3 converts to."""

from cases.limitations import RESID_MID_MISSES
from harness.models.families import every_variant

CASES = every_variant("glm", RESID_MID_MISSES)
