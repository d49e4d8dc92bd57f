"""GLM (GLM-4-9B, ChatGLM3 converted): gate and up fused, rotary on neighbouring pairs.

Source: `transformers.models.glm.modeling_glm`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LINEAR_ROPE, LLAMA_SIZES
from harness.models.families.decoder import MLP, llama_like
from harness.models.family import Tap
from harness.models.layouts import half

FAMILY = llama_like(
    "glm",
    config={
        **LLAMA_SIZES,
        "model_type": "glm",
        "architectures": ["GlmForCausalLM"],
        "hidden_size": 48,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "partial_rotary_factor": 0.5,
        "rope_theta": 5000000.0,
        "rope_scaling": None,
        "attention_bias": True,
        "hidden_act": "silu",
        "rms_norm_eps": 1.5625e-07,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        "no_attention_bias": {"attention_bias": False},
        "wide_heads": {"head_dim": 12},
        "off_default": {
            "num_key_value_heads": 1,
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "partial_rotary_factor": 0.75,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": True,
        },
    },
    mlp={
        "mlp.pre": Tap(module=f"{MLP}.gate_up_proj", view=half(0)),
        "mlp.pre_linear": Tap(module=f"{MLP}.gate_up_proj", view=half(1)),
        "mlp.post": Tap(module=f"{MLP}.down_proj", side="in"),
    },
    # The bridge folds no norm into the fused projection (supports_fold_ln is off in its adapter).
    foldable=False,
)
