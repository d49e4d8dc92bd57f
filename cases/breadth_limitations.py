"""What is known to differ of architectures measured as tiny checkpoints, by type and kind."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from cases import ALL
from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    AFTER_TRANSFORMERS,
    BRIDGE,
    HUGGING_FACE,
    PATTERN_AS_SCORES,
    post_norm_alias,
    silent_rotary_hooks,
)
from cases.t5 import CROSS_UNMASKED, EMBED_SILENT, SELF_UNMASKED
from harness.case import Limitation

_KINDS = {"bert": "masked", "t5": "seq2seq"}

# What is known of a family with cases of its own holds for its shrunk checkpoint too.
_OF_CASES: Final = {
    (case.family, _KINDS.get(case.family, "causal")): case.limitations
    for case in ALL
    if (case.variant, case.checkpoint) == ("default", "synthetic")
}

_PATTERN_AS_ALL_SCORES: Final = replace(
    PATTERN_AS_SCORES, sites=("attn.attn_scores", "cross_attn.attn_scores")
)

_LED_SILENT: Final = Limitation(
    outcome="silent",
    sites=("attn.attn_scores", "attn.pattern", "cross_attn.attn_scores", "cross_attn.pattern"),
    reason="LED's attention returns its weights only where a loaded config asks for them",
    link="docs/findings/led-attention-hooks-silent-in-a-loaded-model.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

_ROUTER_GIVES_INDICES: Final = Limitation(
    outcome="raises",
    words="mlp.router: the port's tensor is",
    reason="the hook of Granite MoE's router gives the indices of the chosen experts",
    link="docs/findings/granitemoe-router-hook-fires-expert-indices.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

_BIAS_AS_PATTERN: Final = Limitation(
    outcome="local",
    sites=("attn.attn_scores", "attn.pattern", "cross_attn.attn_scores", "cross_attn.pattern"),
    reason="hook_pattern and hook_attn_scores fire the position bias",
    link="docs/findings/switch-pattern-hook-fires-the-position-bias.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

_EMBED_UNSCALED: Final = Limitation(
    outcome="local",
    sites=("embed",),
    reason="the embedding is scaled behind the module that embed.hook_out stands on",
    link="docs/findings/recurrent-gemma-embed-hook-lacks-the-scale.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

_Z_CUT_WRONG: Final = Limitation(
    outcome="raises",
    words="attn.z: the port's tensor is",
    reason="hook_z of latent attention is cut into heads of the rotary part's width",
    link="docs/findings/latent-attention-z-cut-by-the-rotary-width.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=("bridge",),
)

_PRE_OF_BOTH_HALVES: Final = Limitation(
    outcome="raises",
    words="mlp.pre: the port's tensor is",
    reason="mlp.hook_pre gives both inputs of a gated MLP",
    link="docs/findings/modernbert-decoder-mlp-pre-holds-both-halves.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

_PADDING_READ: Final = Limitation(
    outcome="differs",
    sites=("mixer_out",),
    reason="the recurrent blocks read padding, which eager attention and sdpa fill differently",
    link="docs/findings/recurrent-gemma-reads-padding.md",
    until=AFTER_TRANSFORMERS,
    loading_modes=HUGGING_FACE,
    dtypes=("exact", "float32"),  # below the rounding of bfloat16
)

# A limitation, a kind, and the types of that kind that have it.
_OF_TYPES: Final[tuple[tuple[Limitation, str, tuple[str, ...]], ...]] = (
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
            "laguna",
            "llama4",
            "llama4_text",
            "modernbert-decoder",
            "olmo_hybrid",
            "xglm",
        ),
    ),
    (
        _PATTERN_AS_ALL_SCORES,
        "seq2seq",
        ("bart", "blenderbot", "m2m_100", "marian", "mbart", "pegasus"),
    ),
    (PATTERN_AS_SCORES, "seq2seq", ("t5gemma2",)),
    (post_norm_alias("attn_out"), "causal", ("bert",)),
    (post_norm_alias("resid_mid"), "causal", ("bert",)),
    (post_norm_alias("resid_mid"), "seq2seq", ("bart", "led", "marian")),
    (EMBED_SILENT, "seq2seq", ("longt5", "mt5", "switch_transformers")),
    (SELF_UNMASKED, "seq2seq", ("longt5", "mt5")),
    (CROSS_UNMASKED, "seq2seq", ("longt5", "mt5")),
    (_BIAS_AS_PATTERN, "seq2seq", ("switch_transformers",)),
    (_LED_SILENT, "seq2seq", ("led",)),
    (_Z_CUT_WRONG, "causal", ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu")),
    (_PRE_OF_BOTH_HALVES, "causal", ("modernbert-decoder",)),
    (_ROUTER_GIVES_INDICES, "causal", ("granitemoe",)),
    (_EMBED_UNSCALED, "causal", ("recurrent_gemma",)),
    (_PADDING_READ, "causal", ("recurrent_gemma",)),
)


def _of_types() -> Iterator[tuple[tuple[str, str], tuple[Limitation, ...]]]:
    for name, kind in {(name, kind) for _, kind, names in _OF_TYPES for name in names}:
        items = tuple(item for item, of, names in _OF_TYPES if kind == of and name in names)
        yield (name, kind), items


LIMITATIONS: Final = {**_OF_CASES, **dict(_of_types())}
