"""StarCoder2. Source: `transformers.models.starcoder2.modeling_starcoder2`."""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    IMPLIED_HEAD_SIZES,
    LINEAR_ROPE,
    WINDOW,
)
from harness.models.families.decoder import MLP, llama_like
from harness.models.layouts import plain_mlp

FAMILY = llama_like(
    "starcoder2",
    config={
        **IMPLIED_HEAD_SIZES,
        **GROUPED_QUERIES,
        "model_type": "starcoder2",
        "architectures": ["Starcoder2ForCausalLM"],
        "hidden_act": "gelu_pytorch_tanh",
        "mlp_type": "default",
        "norm_type": "layer_norm",
        "norm_epsilon": 1e-5,
        "rope_theta": 100000.0,
        "rope_scaling": None,
        "sliding_window": None,
        "use_bias": True,
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
        "residual_dropout": 0.0,
        "tie_word_embeddings": True,
    },
    variants={
        "window": {"sliding_window": WINDOW},
        "unbiased": {"use_bias": False},
        "off_default": {
            "num_key_value_heads": 1,
            "hidden_act": "gelu",
            "norm_epsilon": FAR_EPS,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": False,
        },
    },
    mlp=plain_mlp(MLP, into="c_fc", out="c_proj"),
    layer_norm=True,
)
