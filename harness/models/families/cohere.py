"""Cohere (Command-R): attention and MLP side by side after one LayerNorm without bias.

Logits are multiplied by `logit_scale`; rotary turns neighbouring pairs. Source:
`transformers.models.cohere.modeling_cohere`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, IMPLIED_HEAD_SIZES, LINEAR_ROPE
from harness.models.families.decoder import llama_like
from harness.models.family import REMOVED
from harness.models.heads import Head, multiplied, output_embeddings

FAMILY = llama_like(
    "cohere",
    config={
        **IMPLIED_HEAD_SIZES,
        "model_type": "cohere",
        "architectures": ["CohereForCausalLM"],
        "hidden_size": 48,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "logit_scale": 0.0625,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-5,
        "rope_theta": 8000000.0,
        "rope_scaling": None,
        "use_qk_norm": False,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
    },
    variants={
        "qk_norm": {"use_qk_norm": True},
        "attention_bias": {"attention_bias": True},
        # The default was 10000 until transformers 4.57 and is 500000 since 5.0.
        "default_rope_theta": {"rope_theta": REMOVED},
        "off_default": {
            "logit_scale": 0.25,
            "hidden_act": "gelu",
            "layer_norm_eps": FAR_EPS,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": False,
        },
    },
    layer_norm=True,
    without=("resid_mid", "ln2.out"),
    head=Head(steps=(output_embeddings, multiplied("logit_scale"))),
)
