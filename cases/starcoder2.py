"""StarCoder2."""

from harness.models.families import every_variant

CASES = every_variant("starcoder2")
