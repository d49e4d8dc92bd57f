"""Gemma 2. Source: `transformers.models.gemma2.modeling_gemma2`."""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    LINEAR_ROPE,
    LLAMA_SIZES,
    WINDOW,
)
from harness.models.families.decoder import LAYER, SCALED_EMBED, llama_like
from harness.models.family import REMOVED, Tap
from harness.models.heads import Head, output_embeddings, softcapped

FAMILY = llama_like(
    "gemma2",
    config={
        **LLAMA_SIZES,
        **GROUPED_QUERIES,
        "head_dim": 14,
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        # Not the head size, as in gemma-2-27b.
        "query_pre_attn_scalar": 12,
        # Layers 0 and 2 see a window.
        "sliding_window": WINDOW,
        # Published are 50 and 30; these lie near the synthetic scores and logits and bite.
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 5.0,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
    },
    variants={
        # The config's own name for the activation; the hub's files repeat it as hidden_act.
        "hidden_activation_alone": {"hidden_act": REMOVED},
        "uncapped": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
        "window_4": {"sliding_window": 4},
        "off_default": {
            "hidden_act": "relu",
            "hidden_activation": "relu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
    },
    taps={
        "attn_out": Tap(module=f"{LAYER}.post_attention_layernorm"),
        "mlp_out": Tap(module=f"{LAYER}.post_feedforward_layernorm"),
    },
    ln2="pre_feedforward_layernorm",
    embed=SCALED_EMBED,
    norm_offset=True,
    head=Head(steps=(output_embeddings, softcapped)),
)
