"""T5: an encoder and a decoder."""

from cases.limitations import AFTER_TRANSFORMER_LENS, BRIDGE
from harness.case import Limitation
from harness.models.families import every_variant

EMBED_SILENT = Limitation(
    outcome="silent",
    sites=("embed",),
    reason="embed.hook_out stands on a module that transformers 5 no longer calls",
    link="docs/findings/t5-embed-hook-never-fires.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)
SELF_UNMASKED, CROSS_UNMASKED = (
    Limitation(
        outcome="local",
        sites=(site,),
        reason=f"{site} is put together again without the mask",
        link="docs/findings/t5-attn-scores-lack-the-mask.md",
        until=AFTER_TRANSFORMER_LENS,
        loading_modes=BRIDGE,
    )
    for site in ("attn.attn_scores", "cross_attn.attn_scores")
)

CASES = every_variant("t5", EMBED_SILENT, SELF_UNMASKED, CROSS_UNMASKED)
