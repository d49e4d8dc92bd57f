"""OLMo 3."""

from harness.models.families import every_variant

CASES = every_variant("olmo3")
