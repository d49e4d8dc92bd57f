"""OLMoE. Source: `transformers.models.olmoe.modeling_olmoe`."""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, GROUPED_QUERIES, IMPLIED_HEAD_SIZES, LINEAR_ROPE
from harness.models.families.decoder import MLP, llama_like
from harness.models.family import Tap

FAMILY = llama_like(
    "olmoe",
    config={
        **IMPLIED_HEAD_SIZES,
        "model_type": "olmoe",
        "architectures": ["OlmoeForCausalLM"],
        "num_experts": 7,
        "num_experts_per_tok": 2,
        "norm_topk_prob": False,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.01,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "clip_qkv": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        "norm_topk": {"norm_topk_prob": True},
        # Within one standard deviation of the synthetic values, which are normed first.
        "clip_qkv": {"clip_qkv": 0.75},
        "off_default": {
            **GROUPED_QUERIES,
            "num_experts_per_tok": 3,
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    },
    mlp={"mlp.router": Tap(module=f"{MLP}.gate")},
)
