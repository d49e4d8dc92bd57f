"""What is known to differ of architectures measured as tiny checkpoints, by type and kind.

Of a kind with flipped fields, the kind is called `causal_off_default` or the like.
"""

from __future__ import annotations

from typing import Final

from cases import ALL
from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    BRIDGE,
    DECODER_TAKEN_FOR_THE_WHOLE,
    PATTERN_AS_CROSS_SCORES,
    PATTERN_AS_SCORES,
    gated_mlp_left_out,
    post_norm_alias,
)
from harness.case import Limitation

_KINDS: Final = {"bert": "masked", "t5": "seq2seq"}

_WITHOUT_ROPE: Final = Limitation(
    outcome="raises",
    words="Original component not set for model.rotary_emb",
    reason="position_embedding_type=None is taken for rope, and no rotary embedding is there",
    link="docs/findings/granitemoehybrid-without-rope-does-not-run.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)
_FOLDED_WITHOUT_LAYOUT: Final = Limitation(
    outcome="raises",
    words="The size of tensor a",
    reason="norms are folded into weights of which the adapter does not say how they lie",
    link="docs/findings/falcon-h1-is-folded-without-layout.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=("bridge_compat",),
)
_MASK_READS_AHEAD: Final = Limitation(
    outcome="differs",
    sites=("logits",),
    reason="a mask that says what is padded is taken for one that has causality in it",
    link="docs/findings/openai-gpt-with-a-mask-reads-ahead.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)
_CACHE_IN_FLOAT32: Final = Limitation(
    outcome="raises",
    words="have the same dtype",
    reason="keys go into the cache in float32, and values come back from it so",
    link="docs/findings/codegen-bfloat16-with-a-cache-raises.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
    dtypes=("bfloat16",),
)

# What was found on tiny checkpoints: a type's word on one of its kinds.
_FOUND: Final[tuple[tuple[str, str, tuple[Limitation, ...]], ...]] = (
    *(
        (name, "causal", (DECODER_TAKEN_FOR_THE_WHOLE,))
        for name in ("bart", "blenderbot", "marian", "mbart", "pegasus")
    ),
    ("bitnet", "causal", (gated_mlp_left_out("blocks.0.mlp_out"),)),
    ("codegen", "causal", (_CACHE_IN_FLOAT32,)),
    ("deepseek_v4", "causal", (gated_mlp_left_out("logits"),)),
    ("falcon_h1", "causal", (_FOLDED_WITHOUT_LAYOUT,)),
    ("granitemoehybrid", "causal", (_WITHOUT_ROPE,)),
    ("jamba", "causal", (PATTERN_AS_SCORES,)),
    ("openai-gpt", "causal", (_MASK_READS_AHEAD,)),
    (
        "roberta",
        "masked",
        (PATTERN_AS_SCORES, post_norm_alias("attn_out"), post_norm_alias("resid_mid")),
    ),
    ("t5gemma", "seq2seq", (PATTERN_AS_CROSS_SCORES,)),
)

# What is known of a family with cases of its own holds for its shrunk checkpoint too.
LIMITATIONS: Final[dict[tuple[str, str], tuple[Limitation, ...]]] = {
    (case.family, _KINDS.get(case.family, "causal")): case.limitations
    for case in ALL
    if (case.variant, case.checkpoint) == ("default", "synthetic")
} | {(name, kind): known for name, kind, known in _FOUND}
