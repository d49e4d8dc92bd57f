"""Cohere 2 (Command R7B): Cohere's block; layers with a window turn by position, others do not.

Source: `transformers.models.cohere2.modeling_cohere2`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, IMPLIED_HEAD_SIZES, LINEAR_ROPE, WINDOW
from harness.models.families.decoder import llama_like
from harness.models.family import REMOVED
from harness.models.heads import Head, multiplied, output_embeddings

FAMILY = llama_like(
    "cohere2",
    config={
        **IMPLIED_HEAD_SIZES,
        "model_type": "cohere2",
        "architectures": ["Cohere2ForCausalLM"],
        "hidden_size": 48,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "logit_scale": 0.0625,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-5,
        "rope_theta": 50000.0,
        "rope_scaling": None,
        "sliding_window": WINDOW,
        # Releases until 4.52 read the first, later ones the second.
        "sliding_window_pattern": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
    },
    variants={
        "window_4": {"sliding_window": 4},
        "attention_bias": {"attention_bias": True},
        "off_default": {
            "head_dim": 14,
            "logit_scale": 0.25,
            "hidden_act": "gelu",
            "layer_norm_eps": FAR_EPS,
            "rope_scaling": LINEAR_ROPE,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "tie_word_embeddings": False,
        },
        "pattern_3": {
            "layer_types": REMOVED,
            "sliding_window_pattern": 3,
        },
    },
    layer_norm=True,
    without=("resid_mid", "ln2.out"),
    head=Head(steps=(output_embeddings, multiplied("logit_scale"))),
)
