"""T5: an encoder and a decoder."""

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    BRIDGE,
    PATTERN_DISCARDED,
)
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

UNMASKED_READ_AHEAD = Limitation(
    outcome="differs",
    probes=("causality",),
    sites=("attn.attn_scores",),
    reason="the scores that the hook gives lack the mask, so that later keys show in them",
    link="docs/findings/t5-attn-scores-lack-the-mask.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

SCORES_SILENT_FROM_A_CACHE = Limitation(
    outcome="differs",
    probes=("cached_decoding",),
    checks=("hooks fire at every step",),
    sites=("decoder_blocks.0.attn.attn_scores",),
    reason="scores are put together of the keys of this pass, and not where some are cached",
    link="docs/findings/t5-attn-scores-silent-from-a-cache.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
    dtypes=("exact",),  # under rounding, scores are not held against a full pass
)

CASES = every_variant(
    "t5",
    EMBED_SILENT,
    SELF_UNMASKED,
    CROSS_UNMASKED,
    UNMASKED_READ_AHEAD,
    PATTERN_DISCARDED,
    SCORES_SILENT_FROM_A_CACHE,
)
