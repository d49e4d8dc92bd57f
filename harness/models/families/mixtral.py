"""Mixtral. Source: `transformers.models.mixtral.modeling_mixtral`."""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    IMPLIED_HEAD_SIZES,
    LINEAR_ROPE,
    WINDOW,
)
from harness.models.families.decoder import LAYER, MLP, llama_like
from harness.models.family import Tap

_FORMERLY = f"{LAYER}.block_sparse_moe"

FAMILY = llama_like(
    "mixtral",
    config={
        **IMPLIED_HEAD_SIZES,
        **GROUPED_QUERIES,
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 7,
        "num_experts_per_tok": 2,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.02,
        "router_jitter_noise": 0.0,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "sliding_window": None,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        "window": {"sliding_window": WINDOW},
        "off_default": {
            "head_dim": 14,
            "num_experts_per_tok": 3,
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": True,
        },
    },
    mlp={"mlp.router": Tap(module=f"{MLP}.gate", formerly=f"{_FORMERLY}.gate")},
    taps={"mlp_out": Tap(module=MLP, formerly=_FORMERLY)},
)
