"""OLMo 3. Source: `transformers.models.olmo3.modeling_olmo3`."""

from __future__ import annotations

from harness.models.families.common import (
    FAR_EPS,
    GROUPED_QUERIES,
    IMPLIED_HEAD_SIZES,
    LENGTH,
    WINDOW,
)
from harness.models.families.decoder import LAYER, MLP, llama_like
from harness.models.family import Tap

_ORIGINAL_LENGTH = LENGTH // 4

FAMILY = llama_like(
    "olmo3",
    config={
        **IMPLIED_HEAD_SIZES,
        "model_type": "olmo3",
        "architectures": ["Olmo3ForCausalLM"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0,
        "rope_scaling": None,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        # As in Olmo-3-32B.
        "gqa": GROUPED_QUERIES,
        # Any base but the published one: releases differ on whether windowed layers take it too.
        "rope_theta": {"rope_theta": 10000.0},
        # As published, in the layers that see everything only. The published betas, 32 and 1,
        # are shrunk with the original length, so that the ramp lies among the few frequencies.
        "yarn": {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": LENGTH / _ORIGINAL_LENGTH,
                "original_max_position_embeddings": _ORIGINAL_LENGTH,
                "attention_factor": 1.2,
                "beta_fast": 0.2,
                "beta_slow": 0.0005,
            },
        },
        "off_default": {
            "hidden_act": "gelu",
            "rms_norm_eps": FAR_EPS,
            # Not the factor that the two lengths give by default, as in `yarn`.
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 2.0,
                "original_max_position_embeddings": _ORIGINAL_LENGTH,
                "beta_fast": 0.2,
                "beta_slow": 0.0005,
            },
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    },
    unexercised={
        "rope_parameters.sliding_attention.rope_theta": "transformers 4 spells one base for all "
        "layers, which 5.23 does not give to those with a window "
        "(docs/findings/olmo3-window-layers-lose-rope-theta.md)",
        "rope_parameters.sliding_attention.rope_type": "transformers 4 cannot spell it: its layers "
        "with a window are never scaled",
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
