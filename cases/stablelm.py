"""StableLM."""

from cases.limitations import resid_mid_misses
from harness.models.families import every_variant

CASES = every_variant(
    "stablelm", resid_mid_misses("default", "qkv_bias", "gqa", "qk_layernorm", "off_default")
)
