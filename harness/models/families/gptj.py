"""GPT-J: attention and MLP side by side after one norm; rotary on part of each head.

Source: `transformers.models.gptj.modeling_gptj`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.layouts import block, plain_mlp, separate_qkv

_LAYER = "transformer.h.{i}"

FAMILY = Family(
    name="gptj",
    config={
        "model_type": "gptj",
        "architectures": ["GPTJForCausalLM"],
        "vocab_size": VOCAB,
        "n_positions": LENGTH,
        "n_embd": 40,
        "n_layer": 3,
        "n_head": 5,
        "n_inner": 44,
        "rotary": True,
        "rotary_dim": 4,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "tie_word_embeddings": False,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "whole_head_rotary": {"rotary_dim": 8},
        "off_default": {
            "activation_function": "relu",
            "layer_norm_epsilon": FAR_EPS,
            "tie_word_embeddings": True,
        },
    },
    layer_norm=True,
    rotary=True,
    taps={
        "embed": Tap(module="transformer.wte"),
        "ln_final.out": Tap(module="transformer.ln_f"),
    },
    stacks=(
        Stack(
            prefix="blocks",
            n_layers=lambda config: config.n_layer,
            attention={"attn": f"{_LAYER}.attn"},
            taps={
                **block(_LAYER),
                "ln1.out": Tap(module=f"{_LAYER}.ln_1"),
                **separate_qkv(f"{_LAYER}.attn", output="out_proj"),
                "attn_out": Tap(module=f"{_LAYER}.attn"),
                **plain_mlp(f"{_LAYER}.mlp", into="fc_in", out="fc_out"),
                "mlp_out": Tap(module=f"{_LAYER}.mlp"),
            },
        ),
    ),
    norms={
        "ln1.out": f"{_LAYER}.ln_1",
        "ln_final.out": "transformer.ln_f",
    },
)
