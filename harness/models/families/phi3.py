"""Phi-3. Source: `transformers.models.phi3.modeling_phi3`."""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    IMPLIED_HEAD_SIZES,
    LENGTH,
    WINDOW,
)
from harness.models.families.decoder import ATTENTION, MLP, llama_like
from harness.models.family import Tap
from harness.models.layouts import grouped, half

FAMILY = llama_like(
    "phi3",
    config={
        **IMPLIED_HEAD_SIZES,
        "model_type": "phi3",
        "architectures": ["Phi3ForCausalLM"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "original_max_position_embeddings": LENGTH,
        "partial_rotary_factor": 1.0,
        "sliding_window": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        "gqa": GROUPED_QUERIES,
        "window": {"sliding_window": WINDOW},
        # As in Phi-4-mini: three quarters of each head are rotated.
        "partial_rotary": {"partial_rotary_factor": 0.75},
        # As in Phi-3-mini-128k: prompts past the original length are rotated by other factors.
        "longrope": {
            "original_max_position_embeddings": 16,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 1.25, 1.5, 2.0],
                "long_factor": [1.5, 2.0, 3.0, 5.0],
            },
        },
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "tie_word_embeddings": True,
        },
    },
    taps={
        "attn.q": Tap(module=f"{ATTENTION}.qkv_proj", view=grouped(0)),
        "attn.k": Tap(module=f"{ATTENTION}.qkv_proj", view=grouped(1)),
        "attn.v": Tap(module=f"{ATTENTION}.qkv_proj", view=grouped(2)),
    },
    mlp={
        "mlp.pre": Tap(module=f"{MLP}.gate_up_proj", view=half(0)),
        "mlp.pre_linear": Tap(module=f"{MLP}.gate_up_proj", view=half(1)),
        "mlp.post": Tap(module=f"{MLP}.down_proj", side="in"),
    },
)
