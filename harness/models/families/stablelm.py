"""StableLM: Llama with LayerNorms and rotary on a quarter of each head.

`parallel_residual` and `qk_layernorm` are what StableLM-2-12B uses. Source:
`transformers.models.stablelm.modeling_stablelm`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, IMPLIED_HEAD_SIZES, LINEAR_ROPE
from harness.models.families.decoder import llama_like

FAMILY = llama_like(
    "stablelm",
    config={
        **IMPLIED_HEAD_SIZES,
        "model_type": "stablelm",
        "architectures": ["StableLmForCausalLM"],
        # A head of 16, so that a quarter of it is more than one pair.
        "hidden_size": 80,
        "intermediate_size": 92,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-5,
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "use_qkv_bias": False,
        "qk_layernorm": False,
        "use_parallel_residual": False,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        "qkv_bias": {"use_qkv_bias": True},
        "gqa": {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 96},
        "parallel_residual": {"use_parallel_residual": True},
        "qk_layernorm": {"qk_layernorm": True},
        "off_default": {
            "hidden_act": "gelu",
            "layer_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "partial_rotary_factor": 0.5,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": True,
        },
    },
    layer_norm=True,
)
