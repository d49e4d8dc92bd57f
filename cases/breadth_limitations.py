"""What is known to differ of architectures measured as tiny checkpoints, by type and kind."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from cases import ALL
from cases.limitations import PATTERN_AS_SCORES, post_norm_alias, silent_rotary_hooks
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
    (post_norm_alias("resid_mid"), "seq2seq", ("bart", "marian")),
    (EMBED_SILENT, "seq2seq", ("longt5", "mt5", "switch_transformers")),
    (SELF_UNMASKED, "seq2seq", ("longt5", "mt5")),
    (CROSS_UNMASKED, "seq2seq", ("longt5", "mt5")),
)


def _of_types() -> Iterator[tuple[tuple[str, str], tuple[Limitation, ...]]]:
    for name, kind in {(name, kind) for _, kind, names in _OF_TYPES for name in names}:
        items = tuple(item for item, of, names in _OF_TYPES if kind == of and name in names)
        yield (name, kind), items


LIMITATIONS: Final = {**_OF_CASES, **dict(_of_types())}
