"""What is known to differ of `off_default`, the variant of tiny checkpoints with flipped fields.

Of most types it is what is known of their default; some flips meet a fault of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cases import bloom, falcon, gpt_neox, opt
from cases.breadth_faults import BIAS_FOLDED_PAST_GATE, EMBED_UNSCALED
from cases.limitations import (
    AFTER_TRANSFORMERS,
    PATTERN_AS_SCORES,
    gated_mlp_left_out,
    post_norm_alias,
    scale_ignored,
    silent_rotary_hooks,
    value_bias_of_groups,
)
from cases.t5 import CROSS_UNMASKED, EMBED_SILENT, SELF_UNMASKED
from harness.case import Limitation

# The types of a kind whose default's limitations hold of `off_default` too.
INHERITED: Final[dict[str, tuple[str, ...]]] = {
    "causal": (
        "afmoe",
        "bart",
        "bert",
        "blenderbot",
        "codegen",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v4",
        "falcon_h1",
        "gemma4_text",
        "glm4_moe_lite",
        "granitemoe",
        "granitemoehybrid",
        "jamba",
        "laguna",
        "llama4",
        "llama4_text",
        "marian",
        "mbart",
        "modernbert-decoder",
        "nanochat",
        "olmo_hybrid",
        "openai-gpt",
        "pegasus",
        "recurrent_gemma",
        "xglm",
        "youtu",
    ),
    "masked": ("roberta",),
    "seq2seq": (
        "bart",
        "blenderbot",
        "led",
        "longt5",
        "m2m_100",
        "marian",
        "mbart",
        "mt5",
        "pegasus",
        "switch_transformers",
        "t5gemma",
        "t5gemma2",
    ),
}


def _here(item: Limitation, *modes: str) -> Limitation:
    """Give what is known of a family's variant as what is known of this one."""
    return replace(item, variants=(), loading_modes=modes or item.loading_modes)


_TIES: Final = Limitation(
    outcome="differs",
    sites=("attn.z",),
    reason="equal tokens tie among the keys that are kept, and each kernel keeps others",
    link="docs/findings/doge-ties-among-repeated-tokens.md",
    until=AFTER_TRANSFORMERS,
    loading_modes=("hf_sdpa",),
)
_GROUPED: Final = _here(value_bias_of_groups(), "bridge_compat")

# A limitation, a kind, and the types of that kind that have it where fields are flipped.
OF_TYPES: Final[tuple[tuple[Limitation, str, tuple[str, ...]], ...]] = (
    (_here(bloom.RESIDUAL_FOLDED, "bridge_compat"), "causal", ("bloom",)),
    (_TIES, "causal", ("doge",)),
    (_here(falcon.SPLIT_RAISES), "causal", ("falcon",)),
    (_here(falcon.ALIBI_TWICE), "causal", ("falcon",)),
    (_here(gpt_neox.BIAS_ASSERTED), "causal", ("gpt_neox",)),
    (
        _GROUPED,
        "causal",
        (
            "bamba",
            "bitnet",
            "gemma4",
            "gemma4_unified",
            "laguna",
            "qwen3_5",
            "qwen3_5_moe",
            "qwen3_5_moe_text",
            "qwen3_5_text",
            "qwen3_next",
        ),
    ),
    (_here(scale_ignored()), "causal", ("gpt2", "gpt-sw3")),
    (_here(opt.NO_FINAL_NORM), "causal", ("opt",)),
    (PATTERN_AS_SCORES, "causal", ("gpt_neo", "gptj")),
    (silent_rotary_hooks(), "causal", ("gptj", "phi3")),
    (PATTERN_AS_SCORES, "masked", ("bert",)),
    (post_norm_alias("attn_out"), "masked", ("bert",)),
    (post_norm_alias("resid_mid"), "masked", ("bert",)),
    (EMBED_SILENT, "seq2seq", ("t5",)),
    (SELF_UNMASKED, "seq2seq", ("t5",)),
    (CROSS_UNMASKED, "seq2seq", ("t5",)),
    (BIAS_FOLDED_PAST_GATE, "causal", ("afmoe",)),
    (EMBED_UNSCALED, "causal", ("afmoe",)),
    (gated_mlp_left_out("mlp.post"), "seq2seq", ("t5gemma", "t5gemma2")),
    (EMBED_UNSCALED, "seq2seq", ("marian", "pegasus")),
)
