"""Doge: Llama whose keys are chosen by their values, and whose residual stream has gains.

A number per key and key-value head, computed from the values, is added to the scores; past
`keep_window_size` keys, those with the smallest numbers are masked. Source:
`transformers.models.doge.modeling_doge`.
"""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    IMPLIED_HEAD_SIZES,
    LENGTH,
    LINEAR_ROPE,
    WINDOW,
)
from harness.models.families.decoder import LAYER, llama_like

FAMILY = llama_like(
    "doge",
    config={
        **IMPLIED_HEAD_SIZES,
        **GROUPED_QUERIES,
        "model_type": "doge",
        "architectures": ["DogeForCausalLM"],
        "hidden_act": "silu",
        "hidden_dropout": 0.0,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "sliding_window": None,
        # Published is 2048: prompts longer than that are masked dynamically.
        "keep_window_size": WINDOW,
        "is_moe": False,
        "tie_word_embeddings": False,
    },
    variants={
        # Nothing is masked dynamically: the numbers are added to the scores all the same.
        "keep_all": {"keep_window_size": LENGTH + 1},
        "biases": {"attention_bias": True, "mlp_bias": True},
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
            "sliding_window": WINDOW + 2,
            "tie_word_embeddings": True,
        },
        "experts": {
            "is_moe": True,
            "num_experts": 16,
            "num_experts_per_tok": 3,
            "norm_topk_prob": True,
        },
    },
    chooses_keys=True,
    residual_gains={
        "attn_out": f"{LAYER}.input_residual",
        "mlp_out": f"{LAYER}.post_attention_residual",
    },
)
