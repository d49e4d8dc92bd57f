"""Llama. Source: `transformers.models.llama.modeling_llama`."""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, LINEAR_ROPE, LLAMA_SIZES
from harness.models.families.decoder import llama_like

FAMILY = llama_like(
    "llama",
    config={
        **LLAMA_SIZES,
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "pretraining_tp": 1,
        "tie_word_embeddings": False,
    },
    variants={
        "gqa": {
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "hidden_size": 48,
        },
        "llama3_rope": {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": LENGTH // 4,
            },
        },
        "tied": {"tie_word_embeddings": True},
        "wide_heads": {"head_dim": 14},
        "biases": {"attention_bias": True, "mlp_bias": True},
        # Its last hidden state stands before the final norm, in releases that know the field.
        "untied_states": {"tie_last_hidden_states": False},
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
        },
    },
)
