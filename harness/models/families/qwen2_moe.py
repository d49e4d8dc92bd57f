"""Qwen2-MoE: experts chosen per token beside one that all share, weighted by a gate of its own.

Source: `transformers.models.qwen2_moe.modeling_qwen2_moe`.
"""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    IMPLIED_HEAD_SIZES,
    LINEAR_ROPE,
    WINDOW,
)
from harness.models.families.decoder import MLP, llama_like
from harness.models.family import Tap

FAMILY = llama_like(
    "qwen2_moe",
    config={
        **IMPLIED_HEAD_SIZES,
        **GROUPED_QUERIES,
        "model_type": "qwen2_moe",
        "architectures": ["Qwen2MoeForCausalLM"],
        "num_experts": 7,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "shared_expert_intermediate_size": 44,
        "norm_topk_prob": False,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
        "qkv_bias": True,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": 2,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        "norm_topk": {"norm_topk_prob": True},
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_scaling": LINEAR_ROPE,
            "qkv_bias": False,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "tie_word_embeddings": True,
        },
        "window": {
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
            "mlp_only_layers": [0],
        },
        "sparse_step": {
            "decoder_sparse_step": 2,
        },
    },
    mlp={"mlp.router": Tap(module=f"{MLP}.gate")},
)
