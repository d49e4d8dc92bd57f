"""Doge: keys are masked by what their values say."""

from cases.limitations import AFTER_TRANSFORMERS, HUGGING_FACE
from harness.case import Limitation
from harness.models.families import every_variant

EXPERTS_NOT_TRAINED = Limitation(
    outcome="raises",
    probes=("gradients",),
    words="modified by an inplace operation",
    reason="the experts' softmax is divided in place, so that no gradient comes through",
    link="docs/findings/doge-experts-have-no-gradient.md",
    until=AFTER_TRANSFORMERS,
    variants=("experts",),
    loading_modes=HUGGING_FACE,
)

EXPERTS_MIX_TOKENS = Limitation(
    outcome="differs",
    probes=("causality", "batch", "padding", "cached_decoding"),
    sites=("blocks.0.mlp_out",),
    reason="a token's experts are chosen by halves of other tokens' logits",
    link="docs/findings/doge-experts-mix-tokens.md",
    until=AFTER_TRANSFORMERS,
    variants=("experts",),
    loading_modes=HUGGING_FACE,
)

CASES = every_variant("doge", EXPERTS_NOT_TRAINED, EXPERTS_MIX_TOKENS)
