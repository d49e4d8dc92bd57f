"""Limitations that cases of several families share. Each is written down in docs/findings/."""

from typing import Final

from harness.case import Limitation

BRIDGE: Final = ("bridge*",)
AFTER_TRANSFORMER_LENS: Final = "transformer-lens>4.3.0"
AFTER_TRANSFORMERS: Final = "transformers>5.23.0"

PATTERN_AS_SCORES: Final = Limitation(
    outcome="local",
    sites=("attn.attn_scores",),
    reason="hook_attn_scores fires the pattern that Hugging Face's attention returns",
    link="docs/findings/attn-scores-hook-fires-the-pattern.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

REFACTOR_NEEDS_QUERY_BIASES: Final = Limitation(
    outcome="raises",
    words="b_Q not found at key",
    reason="refactor_factored_attn_matrices alone asserts that queries have a bias",
    link="docs/findings/refactor-needs-query-biases.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=("bridge_refactor_factored_attn_matrices",),
)


def scale_ignored(*variants: str) -> Limitation:
    """Say that scores are scaled in variants that do not scale them."""
    return Limitation(
        outcome="differs",
        sites=("blocks.0.attn.attn_scores",),
        reason="the bridge always divides scores by sqrt(d_head); scale_attn_weights is not read",
        link="docs/findings/scale-attn-weights-ignored.md",
        until=AFTER_TRANSFORMER_LENS,
        variants=variants,
        loading_modes=BRIDGE,
    )


def silent_rotary_hooks(*variants: str) -> Limitation:
    """Say that the hooks behind the rotary embedding are there and never fire."""
    return Limitation(
        outcome="silent",
        sites=("attn.rot_q", "attn.rot_k"),
        reason="hook_rot_q and hook_rot_k exist and never fire",
        link="docs/findings/rotary-hooks-never-fire.md",
        until=AFTER_TRANSFORMER_LENS,
        variants=variants,
        loading_modes=BRIDGE,
    )


def refactor_cannot_read_biases(*variants: str) -> Limitation:
    """Say that refactoring alone stops at biases that are not split into heads."""
    return Limitation(
        outcome="raises",
        words="too many indices for tensor of dimension 1",
        reason="refactor_factored_attn_matrices alone indexes a flat bias by its heads",
        link="docs/findings/refactor-cannot-read-flat-biases.md",
        until=AFTER_TRANSFORMER_LENS,
        variants=variants,
        loading_modes=("bridge_refactor_factored_attn_matrices",),
    )


def value_bias_of_groups(*variants: str) -> Limitation:
    """Say that folding value biases alone stops where heads share them."""
    return Limitation(
        outcome="raises",
        words="is invalid for input of size",
        reason="fold_value_biases alone shapes the value bias of few key-value heads by all heads",
        link="docs/findings/value-bias-of-grouped-heads-not-folded.md",
        until=AFTER_TRANSFORMER_LENS,
        variants=variants,
        loading_modes=("bridge_fold_value_biases",),
    )


def post_norm_alias(site: str, *variants: str) -> Limitation:
    """Say that a hook in a post-norm block stands where a pre-norm block has it."""
    return Limitation(
        outcome="local",
        sites=(site,),
        reason=f"hook_{site} keeps the place it has in a block with norms before its branches",
        link="docs/findings/post-norm-blocks-keep-pre-norm-aliases.md",
        until=AFTER_TRANSFORMER_LENS,
        variants=variants,
        loading_modes=BRIDGE,
    )
