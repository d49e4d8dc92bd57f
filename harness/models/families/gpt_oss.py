"""GPT-OSS, its experts dense. Source: `transformers.models.gpt_oss.modeling_gpt_oss`."""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    LENGTH,
    LINEAR_ROPE,
    LLAMA_SIZES,
    WINDOW,
)
from harness.models.families.decoder import MLP, llama_like
from harness.models.family import Tap

_ORIGINAL_LENGTH = LENGTH // 4
# The published betas, 32 and 1, are shrunk with the original length, so that the ramp lies among
# the few frequencies and `truncate` matters.
_YARN = {
    "rope_type": "yarn",
    "factor": LENGTH / _ORIGINAL_LENGTH,
    "original_max_position_embeddings": _ORIGINAL_LENGTH,
    "beta_fast": 0.5,
    "beta_slow": 0.005,
    "truncate": False,
}

FAMILY = llama_like(
    "gpt_oss",
    config={
        **LLAMA_SIZES,
        **GROUPED_QUERIES,
        "head_dim": 14,
        "model_type": "gpt_oss",
        "architectures": ["GptOssForCausalLM"],
        "num_local_experts": 7,
        "num_experts_per_tok": 2,
        "swiglu_limit": 7.0,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.9,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 150000.0,
        "rope_scaling": _YARN,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        # Published is 7; this lies near the synthetic activations, so that it bites.
        "swiglu_limit": {"swiglu_limit": 1.0},
        "off_default": {
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "attention_bias": False,
            "tie_word_embeddings": True,
        },
        "truncated_yarn": {
            "rope_scaling": {**_YARN, "factor": 2.0, "truncate": True},
            "swiglu_alpha": 1.2,
        },
    },
    mlp={"mlp.router": Tap(module=f"{MLP}.router")},
    scores_shifted=True,
    sinks=True,
)
