"""Falcon: rotary or ALiBi, one norm or two, three layouts of queries, keys and values."""

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    AFTER_TRANSFORMERS,
    BRIDGE,
    refactor_cannot_read_biases,
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

CASES = every_variant(
    "falcon",
    ALIBI_TWICE,
    SPLIT_RAISES,
    SPLIT_WRONG,
    ONE_NORM,
    silent_rotary_hooks("default", "new_decoder_multi_query_off"),
    refactor_cannot_read_biases("alibi"),
)
