"""GLM, which ChatGLM3 converts to."""

from harness.models.families import every_variant

CASES = every_variant("glm")
