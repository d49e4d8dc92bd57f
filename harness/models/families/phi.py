"""Phi (1, 1.5, 2): attention and MLP side by side after one norm, biases everywhere.

Source: `transformers.models.phi.modeling_phi`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, LINEAR_ROPE, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.layouts import block, plain_mlp, separate_qkv

_LAYER = "model.layers.{i}"
_ATTENTION = f"{_LAYER}.self_attn"

FAMILY = Family(
    name="phi",
    config={
        "model_type": "phi",
        "architectures": ["PhiForCausalLM"],
        "vocab_size": VOCAB,
        "max_position_embeddings": LENGTH,
        "hidden_size": 40,
        "intermediate_size": 44,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "qk_layernorm": False,
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "qk_layernorm": {"qk_layernorm": True},
        "gqa": {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 48},
        "off_default": {
            "hidden_act": "silu",
            "layer_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "partial_rotary_factor": 1.0,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": True,
        },
    },
    layer_norm=True,
    rotary=True,
    taps={
        "embed": Tap(module="model.embed_tokens"),
        "ln_final.out": Tap(module="model.final_layernorm"),
    },
    stacks=(
        Stack(
            prefix="blocks",
            n_layers=lambda config: config.num_hidden_layers,
            attention={"attn": _ATTENTION},
            taps={
                **block(_LAYER),
                "ln1.out": Tap(module=f"{_LAYER}.input_layernorm"),
                **separate_qkv(_ATTENTION, output="dense"),
                "attn_out": Tap(module=_ATTENTION),
                **plain_mlp(f"{_LAYER}.mlp", into="fc1", out="fc2"),
                "mlp_out": Tap(module=f"{_LAYER}.mlp"),
            },
        ),
    ),
    norms={
        "ln1.out": f"{_LAYER}.input_layernorm",
        "ln_final.out": "model.final_layernorm",
    },
)
