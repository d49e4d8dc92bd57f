"""Qwen2. Source: `transformers.models.qwen2.modeling_qwen2`."""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    IMPLIED_HEAD_SIZES,
    LINEAR_ROPE,
    WINDOW,
)
from harness.models.families.decoder import llama_like

FAMILY = llama_like(
    "qwen2",
    config={
        **IMPLIED_HEAD_SIZES,
        **GROUPED_QUERIES,
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "use_sliding_window": False,
        "sliding_window": WINDOW,
        "max_window_layers": 2,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        # The first layer sees everything, the other two a window.
        "window": {"use_sliding_window": True, "max_window_layers": 1},
        # All layers see a window.
        "window_everywhere": {
            "use_sliding_window": True,
            "sliding_window": 4,
            "max_window_layers": 0,
        },
        "tied": {"tie_word_embeddings": True},
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_scaling": LINEAR_ROPE,
            "use_sliding_window": True,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    },
)
