"""Qwen3. Source: `transformers.models.qwen3.modeling_qwen3`."""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    LINEAR_ROPE,
    LLAMA_SIZES,
    WINDOW,
)
from harness.models.families.decoder import llama_like

FAMILY = llama_like(
    "qwen3",
    config={
        **LLAMA_SIZES,
        **GROUPED_QUERIES,
        "head_dim": 14,
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": 2,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        "biases": {"attention_bias": True},
        # The first layer sees everything, the other two a window.
        "window": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
        "tied": {"tie_word_embeddings": True},
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_scaling": LINEAR_ROPE,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    },
)
