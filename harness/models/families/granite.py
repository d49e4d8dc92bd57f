"""Granite: Llama with four multipliers, all of them other than Llama's here.

What leaves attention and MLP is taken after `residual_multiplier`, as it enters the residual
stream; the embedding after `embedding_multiplier`. Source:
`transformers.models.granite.modeling_granite`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, IMPLIED_HEAD_SIZES, LINEAR_ROPE
from harness.models.families.decoder import ATTENTION, MLP, llama_like
from harness.models.family import Tap
from harness.models.heads import Head, divided, output_embeddings
from harness.models.layouts import scaled

FAMILY = llama_like(
    "granite",
    config={
        **IMPLIED_HEAD_SIZES,
        "model_type": "granite",
        "architectures": ["GraniteForCausalLM"],
        "hidden_size": 48,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "embedding_multiplier": 12.0,
        "attention_multiplier": 0.125,
        "residual_multiplier": 0.22,
        "logits_scaling": 8.0,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 5000000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
    },
    variants={
        "biases": {"attention_bias": True, "mlp_bias": True},
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": False,
        },
    },
    embed=Tap(module="model.embed_tokens", view=scaled("embedding_multiplier")),
    taps={
        "attn_out": Tap(module=ATTENTION, view=scaled("residual_multiplier")),
        "mlp_out": Tap(module=MLP, view=scaled("residual_multiplier")),
    },
    head=Head(steps=(output_embeddings, divided("logits_scaling"))),
)
