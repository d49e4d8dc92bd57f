"""GPT-NeoX (Pythia)."""

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    BRIDGE,
    resid_mid_misses,
    silent_rotary_hooks,
)
from harness.case import Limitation
from harness.models.families import every_variant

BIAS_ASSERTED = Limitation(
    outcome="raises",
    words="AssertionError()",
    reason="the bridge asserts that the fused projection has a bias",
    link="docs/findings/gpt-neox-without-bias-does-not-boot.md",
    until=AFTER_TRANSFORMER_LENS,
    variants=("no_attention_bias",),
    loading_modes=BRIDGE,
)

CASES = every_variant(
    "gpt_neox",
    BIAS_ASSERTED,
    resid_mid_misses("sequential_residual"),
    silent_rotary_hooks("default", "sequential_residual", "off_default"),
)
