"""Mistral. Source: `transformers.models.mistral.modeling_mistral`."""

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
    "mistral",
    config={
        **IMPLIED_HEAD_SIZES,
        **GROUPED_QUERIES,
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "sliding_window": None,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        "window": {"sliding_window": WINDOW},
        # As in Mistral NeMo: heads that together are not as wide as the residual stream.
        "wide_heads": {"head_dim": 14},
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": True,
        },
    },
)
