"""OLMo. Source: `transformers.models.olmo.modeling_olmo`."""

from __future__ import annotations

from harness.models.families.common import GROUPED_QUERIES, IMPLIED_HEAD_SIZES, LINEAR_ROPE
from harness.models.families.decoder import llama_like

FAMILY = llama_like(
    "olmo",
    config={
        **IMPLIED_HEAD_SIZES,
        "model_type": "olmo",
        "architectures": ["OlmoForCausalLM"],
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "clip_qkv": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        "gqa": GROUPED_QUERIES,
        # Published is 8; this lies within one standard deviation of the synthetic values.
        "clip_qkv": {"clip_qkv": 0.75},
        "off_default": {
            "hidden_act": "gelu",
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    },
    # The norms are LayerNorms without gain and bias.
    layer_norm=True,
    foldable=False,
)
