"""Gemma. Source: `transformers.models.gemma.modeling_gemma`."""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LINEAR_ROPE, LLAMA_SIZES
from harness.models.families.decoder import SCALED_EMBED, llama_like

FAMILY = llama_like(
    "gemma",
    config={
        **LLAMA_SIZES,
        "head_dim": 14,
        "model_type": "gemma",
        "architectures": ["GemmaForCausalLM"],
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
    },
    variants={
        # As in gemma-2b: one key and value head.
        "mqa": {"num_key_value_heads": 1},
        # As first published: "gelu" stands for the tanh approximation.
        "legacy_act": {"hidden_act": "gelu", "hidden_activation": None},
        "off_default": {
            "hidden_act": "relu",
            "hidden_activation": "relu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
    },
    embed=SCALED_EMBED,
    norm_offset=True,
)
