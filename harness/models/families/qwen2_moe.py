"""Qwen2-MoE: experts chosen per token beside one that all share, weighted by a gate of its own.

Source: `transformers.models.qwen2_moe.modeling_qwen2_moe`.
"""

from __future__ import annotations

from harness.models.families.common import GROUPED_QUERIES, IMPLIED_HEAD_SIZES
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
    variants={"norm_topk": {"norm_topk_prob": True}},
    mlp={"mlp.router": Tap(module=f"{MLP}.gate")},
)
