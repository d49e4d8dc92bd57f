"""Gemma 3, text only."""

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    BRIDGE,
    RESID_MID_MISSES,
    in_what_follows,
    value_bias_of_groups,
)
from harness.case import Limitation
from harness.models.families import every_variant

SOFTCAP_APPLIED = Limitation(
    outcome="differs",
    sites=("blocks.0.attn.attn_scores",),
    reason="the bridge caps the scores; transformers has the number and does not use it",
    link="docs/findings/gemma3-attention-softcap-applied.md",
    until=AFTER_TRANSFORMER_LENS,
    variants=("attn_softcap",),
    loading_modes=BRIDGE,
)

CASES = every_variant(
    "gemma3",
    RESID_MID_MISSES,
    SOFTCAP_APPLIED,
    in_what_follows(SOFTCAP_APPLIED),
    value_bias_of_groups("off_default"),
)
