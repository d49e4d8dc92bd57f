"""Phi-3."""

from cases.limitations import (
    AFTER_TRANSFORMERS,
    RESID_MID_MISSES,
    silent_rotary_hooks,
)
from harness.case import Limitation
from harness.models.families import every_variant

FACTORS_SWITCH_UNDER_A_CACHE = Limitation(
    outcome="differs",
    probes=("cached_decoding",),
    sites=("blocks.0.attn.rot_q", "blocks.0.attn.attn_scores", "blocks.0.attn.z"),
    reason="past the original length all positions take other factors, cached keys keep the old",
    link="docs/findings/phi3-longrope-switches-under-a-cache.md",
    until=AFTER_TRANSFORMERS,
    variants=("longrope",),
)

FAKE_FACTORS_UNDER_NNTERP = Limitation(
    outcome="differs",
    sites=("blocks.0.attn.pattern",),
    reason="nnterp's check at load leaves a fake tensor where the factors of long prompts are kept",
    link="docs/findings/nnterp-check-leaves-a-fake-tensor-in-longrope.md",
    until="nnterp>1.3.0",
    variants=("longrope",),
    loading_modes=("nnterp",),
)

CASES = every_variant(
    "phi3",
    RESID_MID_MISSES,
    silent_rotary_hooks(),
    FACTORS_SWITCH_UNDER_A_CACHE,
    FAKE_FACTORS_UNDER_NNTERP,
)
