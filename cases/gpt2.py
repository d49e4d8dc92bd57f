"""GPT-2, tiny and in the real shape of gpt2-small."""

from harness.case import Case, Limitation
from harness.models.families import every_variant

SCALE_IGNORED = Limitation(
    outcome="differs",
    sites=("blocks.0.attn.attn_scores",),
    reason="the bridge always divides scores by sqrt(d_head); scale_attn_weights is not read",
    link="docs/findings/scale-attn-weights-ignored.md",
    until="transformer-lens>4.3.0",
    variants=("unscaled",),
    loading_modes=("bridge*",),
)

CASES = (
    *every_variant("gpt2", SCALE_IGNORED),
    Case(family="gpt2", checkpoint="synthetic:gpt2-small"),
)
