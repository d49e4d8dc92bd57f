"""Faults seen on tiny checkpoints alone, each a limitation by name. Data only."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cases.limitations import (
    AFTER_TRANSFORMER_LENS,
    AFTER_TRANSFORMERS,
    BRIDGE,
    HUGGING_FACE,
    PATTERN_AS_SCORES,
)
from harness.case import Limitation

PATTERN_AS_ALL_SCORES: Final = replace(
    PATTERN_AS_SCORES, sites=("attn.attn_scores", "cross_attn.attn_scores")
)

WITHOUT_ROPE: Final = Limitation(
    outcome="raises",
    words="Original component not set for model.rotary_emb",
    reason="position_embedding_type=None is taken for rope, and no rotary embedding is there",
    link="docs/findings/granitemoehybrid-without-rope-does-not-run.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

FOLDED_WITHOUT_LAYOUT: Final = Limitation(
    outcome="raises",
    words="The size of tensor a",
    reason="norms are folded into weights of which the adapter does not say how they lie",
    link="docs/findings/falcon-h1-is-folded-without-layout.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=("bridge_compat",),
)

BIAS_FOLDED_PAST_GATE: Final = Limitation(
    outcome="differs",
    sites=("blocks.0.attn_out",),
    reason="fold_value_biases moves value biases past the gate of the attention's output",
    link="docs/findings/afmoe-value-bias-folded-past-the-gate.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=("bridge_compat",),
)

MASK_READS_AHEAD: Final = Limitation(
    outcome="differs",
    sites=("logits",),
    reason="a mask that says what is padded is taken for one that has causality in it",
    link="docs/findings/openai-gpt-with-a-mask-reads-ahead.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

LED_SILENT: Final = Limitation(
    outcome="silent",
    sites=("attn.attn_scores", "attn.pattern", "cross_attn.attn_scores", "cross_attn.pattern"),
    reason="LED's attention returns its weights only where a loaded config asks for them",
    link="docs/findings/led-attention-hooks-silent-in-a-loaded-model.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

ROUTER_GIVES_INDICES: Final = Limitation(
    outcome="raises",
    words="mlp.router: the port's tensor is",
    reason="the hook of Granite MoE's router gives the indices of the chosen experts",
    link="docs/findings/granitemoe-router-hook-fires-expert-indices.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

BIAS_AS_PATTERN: Final = Limitation(
    outcome="local",
    sites=("attn.attn_scores", "attn.pattern", "cross_attn.attn_scores", "cross_attn.pattern"),
    reason="hook_pattern and hook_attn_scores fire the position bias",
    link="docs/findings/switch-pattern-hook-fires-the-position-bias.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

EMBED_UNSCALED: Final = Limitation(
    outcome="local",
    sites=("embed",),
    reason="the embedding is scaled behind the module that embed.hook_out stands on",
    link="docs/findings/recurrent-gemma-embed-hook-lacks-the-scale.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

PADDING_READ: Final = Limitation(
    outcome="differs",
    sites=("mixer_out",),
    reason="the recurrent blocks read padding, which eager attention and sdpa fill differently",
    link="docs/findings/recurrent-gemma-reads-padding.md",
    until=AFTER_TRANSFORMERS,
    loading_modes=HUGGING_FACE,
    dtypes=("exact", "float32"),  # below the rounding of bfloat16
)

CACHE_IN_FLOAT32: Final = Limitation(
    outcome="raises",
    words="have the same dtype",
    reason="keys go into the cache in float32, and values come back from it so",
    link="docs/findings/codegen-bfloat16-with-a-cache-raises.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
    dtypes=("bfloat16",),
)

Z_CUT_WRONG: Final = Limitation(
    outcome="raises",
    words="attn.z: the port's tensor is",
    reason="hook_z of latent attention is cut into heads of the rotary part's width",
    link="docs/findings/latent-attention-z-cut-by-the-rotary-width.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=("bridge",),
)

PRE_OF_BOTH_HALVES: Final = Limitation(
    outcome="raises",
    words="mlp.pre: the port's tensor is",
    reason="mlp.hook_pre gives both inputs of a gated MLP",
    link="docs/findings/modernbert-decoder-mlp-pre-holds-both-halves.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=BRIDGE,
)

Q_BEHIND_ROTATION: Final = Limitation(
    outcome="raises",
    words="attn.q: the port's tensor is",
    reason="hook_q of latent attention is read behind the rotation, laid out by head",
    link="docs/findings/latent-attention-z-cut-by-the-rotary-width.md",
    until=AFTER_TRANSFORMER_LENS,
    loading_modes=("bridge_compat",),
)
