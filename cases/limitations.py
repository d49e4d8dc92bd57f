"""Limitations that cases of several families share. Each is written down in docs/findings/."""

from dataclasses import replace
from typing import Final

from harness.case import Limitation

BRIDGE: Final = ("bridge*",)
AFTER_TRANSFORMER_LENS: Final = "transformer-lens>4.3.0"
AFTER_TRANSFORMERS: Final = "transformers>5.23.0"

HUGGING_FACE: Final = ("hf_*",)

POSITIONS_NOT_COUNTED: Final = Limitation(
    outcome="differs",
    probes=("padding",),
    checks=("left, positions not given",),
    sites=("pos_embed",),
    reason="without position ids, padding on the left moves learned positions",
    link="docs/findings/positions-are-not-counted-from-the-mask.md",
    until=AFTER_TRANSFORMERS,
    loading_modes=HUGGING_FACE,
)

PATTERN_AS_SCORES: Final = Limitation(
    outcome="local",
    sites=("attn.attn_scores",),
    reason="hook_attn_scores fires the pattern that Hugging Face's attention returns",
    link="docs/findings/attn-scores-hook-fires-the-pattern.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

PATTERN_AS_CROSS_SCORES: Final = replace(PATTERN_AS_SCORES, sites=("cross_attn.attn_scores",))

DECODER_TAKEN_FOR_THE_WHOLE: Final = Limitation(
    outcome="raises",
    words="has no attribute 'encoder'",
    reason="a decoder alone gets the adapter of the encoder-decoder with its model_type",
    link="docs/findings/decoder-taken-for-the-whole-model.md",
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


RESID_MID_MISSES: Final = Limitation(
    outcome="differs",
    probes=("hook_semantics",),
    checks=("write *.resid_mid",),
    sites=("logits",),
    reason="hook_resid_mid is the norm's input: what is written there misses the stream beside it",
    link="docs/findings/written-resid-mid-misses-the-stream.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

PATTERN_DISCARDED: Final = Limitation(
    outcome="differs",
    probes=("hook_semantics",),
    checks=("write *.attn.pattern",),
    sites=("logits",),
    reason="hook_pattern fires on weights that Hugging Face's attention has used already",
    link="docs/findings/written-pattern-is-discarded.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)


def in_what_follows(item: Limitation) -> Limitation:
    """Give a limitation's word on probes that hold a port against the reference.

    Where the forward pass is wrong, so are its gradient and its logits, wherever it is written to.
    Limitations that say more of a check come before it.
    """
    return replace(
        item, probes=("gradients", "hook_semantics"), checks=(), sites=("embed", "logits")
    )


def resid_mid_misses(*variants: str) -> Limitation:
    """Say that in these variants what is written to `resid_mid` misses the stream."""
    return replace(RESID_MID_MISSES, variants=variants)


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


def post_norm_branches(*variants: str) -> Limitation:
    """Say that the hooks of a post-norm block's stream do not add up, standing where they do."""
    return Limitation(
        outcome="differs",
        probes=("residual",),
        checks=("branches add up",),
        sites=("attn_out",),
        reason="hook_attn_out or hook_resid_mid keeps its place of a block with norms before",
        link="docs/findings/post-norm-blocks-keep-pre-norm-aliases.md",
        until=AFTER_TRANSFORMER_LENS,
        variants=variants,
        loading_modes=BRIDGE,
    )


def gated_mlp_left_out(site: str) -> Limitation:
    """Say that processing leaves out what a gated MLP does besides, first seen at the site."""
    return Limitation(
        outcome="differs",
        sites=(site,),
        reason="once weights are processed, the bridge computes a plain gated MLP by itself",
        link="docs/findings/processed-gated-mlp-leaves-out-what-its-module-does.md",
        until=AFTER_TRANSFORMER_LENS,
        loading_modes=("bridge_compat",),
    )
