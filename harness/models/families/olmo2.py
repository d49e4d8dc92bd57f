"""OLMo 2. Source: `transformers.models.olmo2.modeling_olmo2`."""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, GROUPED_QUERIES, IMPLIED_HEAD_SIZES, LINEAR_ROPE
from harness.models.families.decoder import LAYER, MLP, llama_like
from harness.models.family import Tap

FAMILY = llama_like(
    "olmo2",
    config={
        **IMPLIED_HEAD_SIZES,
        "model_type": "olmo2",
        "architectures": ["Olmo2ForCausalLM"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    # As in OLMo-2-32B.
    variants={
        "gqa": GROUPED_QUERIES,
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_scaling": LINEAR_ROPE,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    },
    # The norms stand behind attention and MLP, which read the residual stream itself.
    taps={
        "attn_out": Tap(module=f"{LAYER}.post_attention_layernorm"),
        "resid_mid": Tap(module=MLP, side="in"),
        "mlp_out": Tap(module=f"{LAYER}.post_feedforward_layernorm"),
    },
    without=("ln1.out", "ln2.out"),
    foldable=False,
)
