"""What is known to differ of architectures measured as tiny checkpoints, by type and kind.

Of a kind with flipped fields, the kind is called `causal_off_default` or the like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cases import ALL
from cases import breadth_flipped as flipped
from cases import breadth_probes as probes
from cases.breadth_faults import (
    BIAS_AS_PATTERN,
    CACHE_IN_FLOAT32,
    EMBED_UNSCALED,
    FOLDED_WITHOUT_LAYOUT,
    LED_SILENT,
    MASK_READS_AHEAD,
    PADDING_READ,
    PATTERN_AS_ALL_SCORES,
    PRE_OF_BOTH_HALVES,
    Q_BEHIND_ROTATION,
    ROUTER_GIVES_INDICES,
    WITHOUT_ROPE,
    Z_CUT_WRONG,
)
from cases.limitations import (
    DECODER_TAKEN_FOR_THE_WHOLE,
    PATTERN_AS_CROSS_SCORES,
    PATTERN_AS_SCORES,
    gated_mlp_left_out,
    post_norm_alias,
    silent_rotary_hooks,
)
from cases.t5 import CROSS_UNMASKED, EMBED_SILENT, SELF_UNMASKED
from harness.case import OFF_DEFAULT, Limitation

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS: Final = {"bert": "masked", "t5": "seq2seq"}

# What is known of a family with cases of its own holds for its shrunk checkpoint too.
_OF_CASES: Final = {
    (case.family, _KINDS.get(case.family, "causal")): case.limitations
    for case in ALL
    if (case.variant, case.checkpoint) == ("default", "synthetic")
}

# A limitation, a kind, and the types of that kind that have it.
_OF_TYPES: Final[tuple[tuple[Limitation, str, tuple[str, ...]], ...]] = (
    *probes.OF_TYPES,
    (
        DECODER_TAKEN_FOR_THE_WHOLE,
        "causal",
        ("bart", "blenderbot", "marian", "mbart", "pegasus"),
    ),
    (gated_mlp_left_out("blocks.0.mlp_out"), "causal", ("bitnet",)),
    (gated_mlp_left_out("logits"), "causal", ("deepseek_v4",)),
    (CACHE_IN_FLOAT32, "causal", ("codegen",)),
    (FOLDED_WITHOUT_LAYOUT, "causal", ("falcon_h1",)),
    (WITHOUT_ROPE, "causal", ("granitemoehybrid",)),
    (MASK_READS_AHEAD, "causal", ("openai-gpt",)),
    (
        silent_rotary_hooks(),
        "causal",
        ("afmoe", "codegen", "gemma4_text", "laguna", "modernbert-decoder", "olmo_hybrid"),
    ),
    (silent_rotary_hooks(), "seq2seq", ("t5gemma2",)),
    (
        PATTERN_AS_SCORES,
        "causal",
        (
            "afmoe",
            "bert",
            "gemma4_text",
            "jamba",
            "laguna",
            "llama4",
            "llama4_text",
            "modernbert-decoder",
            "nanochat",
            "olmo_hybrid",
            "xglm",
        ),
    ),
    (
        PATTERN_AS_ALL_SCORES,
        "seq2seq",
        ("bart", "blenderbot", "m2m_100", "marian", "mbart", "pegasus"),
    ),
    (PATTERN_AS_SCORES, "seq2seq", ("t5gemma2",)),
    (PATTERN_AS_CROSS_SCORES, "seq2seq", ("t5gemma",)),
    (PATTERN_AS_SCORES, "masked", ("roberta",)),
    (post_norm_alias("attn_out"), "masked", ("roberta",)),
    (post_norm_alias("resid_mid"), "masked", ("roberta",)),
    (post_norm_alias("attn_out"), "causal", ("bert",)),
    (post_norm_alias("resid_mid"), "causal", ("bert",)),
    (post_norm_alias("resid_mid"), "seq2seq", ("bart", "led", "marian")),
    (EMBED_SILENT, "seq2seq", ("longt5", "mt5", "switch_transformers")),
    (SELF_UNMASKED, "seq2seq", ("longt5", "mt5")),
    (CROSS_UNMASKED, "seq2seq", ("longt5", "mt5")),
    (BIAS_AS_PATTERN, "seq2seq", ("switch_transformers",)),
    (LED_SILENT, "seq2seq", ("led",)),
    (Z_CUT_WRONG, "causal", ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu")),
    (Q_BEHIND_ROTATION, "causal", ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu")),
    (PRE_OF_BOTH_HALVES, "causal", ("modernbert-decoder",)),
    (ROUTER_GIVES_INDICES, "causal", ("granitemoe",)),
    (EMBED_UNSCALED, "causal", ("recurrent_gemma",)),
    (PADDING_READ, "causal", ("recurrent_gemma",)),
)


def _joined() -> Iterator[tuple[tuple[str, str], tuple[Limitation, ...]]]:
    of_types = ((name, kind) for _, kind, names in _OF_TYPES for name in names)
    for name, kind in {*_OF_CASES, *of_types}:
        found = tuple(item for item, of, names in _OF_TYPES if kind == of and name in names)
        yield (name, kind), (*_OF_CASES.get((name, kind), ()), *found)


def _flipped() -> Iterator[tuple[tuple[str, str], tuple[Limitation, ...]]]:
    """Give what is known of `off_default`, by type and kind."""
    for kind, inheriting in flipped.INHERITED.items():
        own = {name for _, of, names in flipped.OF_TYPES for name in names if of == kind}
        for name in {*own, *inheriting}:
            inherited = _OF_DEFAULTS.get((name, kind), ()) if name in inheriting else ()
            inherited = tuple(item for item in inherited if not item.probes)
            found = (item for item, of, names in flipped.OF_TYPES if kind == of and name in names)
            yield (name, f"{kind}_{OFF_DEFAULT}"), (*inherited, *found)


_OF_DEFAULTS: Final = dict(_joined())
LIMITATIONS: Final[dict[tuple[str, str], tuple[Limitation, ...]]] = {
    **_OF_DEFAULTS,
    **dict(_flipped()),
}
