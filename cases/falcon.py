"""Falcon: rotary or ALiBi, one norm or two, three layouts of queries, keys and values."""

from dataclasses import replace

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    AFTER_TRANSFORMERS,
    BRIDGE,
    in_what_follows,
    refactor_cannot_read_biases,
    resid_mid_misses,
    silent_rotary_hooks,
)
from harness.case import Limitation
from harness.models.families import every_variant

_SPLIT = "docs/findings/falcon-new-decoder-split-wrong.md"

ALIBI_TWICE = Limitation(
    outcome="differs",
    sites=("blocks.0.attn.z",),
    reason="eager attention counts ALiBi twice, sdpa counts it once",
    link="docs/findings/falcon-alibi-counted-twice.md",
    until=AFTER_TRANSFORMERS,
    variants=("alibi", "new_decoder_alibi"),
    loading_modes=("hf_sdpa",),
)
ALIBI_TWICE_BESIDE_NNTERP = replace(
    ALIBI_TWICE,
    sites=("blocks.0.attn_out",),  # nnterp has no name for attn.z, and runs Falcon with sdpa
    loading_modes=("nnterp",),
)
SPLIT_RAISES = Limitation(
    outcome="raises",
    words="split_with_sizes expects split_sizes to sum exactly to",
    reason="the new decoder's groups are split as if there were one key-value head",
    link=_SPLIT,
    until=AFTER_TRANSFORMER_LENS,
    variants=("new_decoder", "new_decoder_alibi"),
    loading_modes=BRIDGE,
)
SPLIT_WRONG = Limitation(
    outcome="differs",
    sites=("blocks.0.attn.q",),
    reason="the new decoder's groups are split as if all queries stood first",
    link=_SPLIT,
    until=AFTER_TRANSFORMER_LENS,
    variants=("new_decoder_multi_query_off",),
    loading_modes=BRIDGE,
)
ONE_NORM = Limitation(
    outcome="raises",
    words="'FalconDecoderLayer' object has no attribute 'ln_attn'",
    reason="the new decoder with one norm calls it input_layernorm, not ln_attn",
    link="docs/findings/falcon-new-decoder-one-norm-does-not-boot.md",
    until=AFTER_TRANSFORMER_LENS,
    variants=("new_decoder_one_norm",),
    loading_modes=BRIDGE,
)
ALIBI_TWICE_BESIDE_SDPA = replace(ALIBI_TWICE, probes=("backends",))
ALIBI_TWICE_WHEN_ASKED = Limitation(
    outcome="differs",
    probes=("observer",),
    checks=("attentions asked for",),
    sites=("blocks.0.attn.z",),
    reason="asked for attentions, sdpa falls back to eager, which counts ALiBi twice",
    link=ALIBI_TWICE.link,
    until=AFTER_TRANSFORMERS,
    variants=("alibi", "new_decoder_alibi"),
    loading_modes=("hf_sdpa",),
)
MASK_LOST = Limitation(
    outcome="differs",
    probes=("causality", "observer"),
    checks=("attentions asked for",),
    sites=("blocks.0.attn.z",),
    reason="asked for attentions, sdpa falls back to eager, which adds a boolean mask as 0 and 1",
    link="docs/findings/falcon-attentions-asked-for-lose-the-mask.md",
    until=AFTER_TRANSFORMERS,
    variants=(
        "default",
        "new_decoder",
        "new_decoder_multi_query_off",
        "new_decoder_one_norm",
        "off_default",
    ),
    loading_modes=("hf_sdpa",),
)

CASES = every_variant(
    "falcon",
    resid_mid_misses("alibi"),
    ALIBI_TWICE,
    in_what_follows(ALIBI_TWICE),
    ALIBI_TWICE_BESIDE_NNTERP,
    ALIBI_TWICE_BESIDE_SDPA,
    ALIBI_TWICE_WHEN_ASKED,
    MASK_LOST,
    SPLIT_RAISES,
    SPLIT_WRONG,
    in_what_follows(SPLIT_WRONG),
    ONE_NORM,
    silent_rotary_hooks("default", "new_decoder_multi_query_off", "off_default"),
    refactor_cannot_read_biases("alibi"),
)
