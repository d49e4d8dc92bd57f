"""GPT-2. Source: `transformers.models.gpt2.modeling_gpt2`."""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.layouts import block, heads, plain_mlp, third

_LAYER = "transformer.h.{i}"

FAMILY = Family(
    name="gpt2",
    config={
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": VOCAB,
        "n_positions": LENGTH,
        "n_ctx": LENGTH,
        "n_embd": 20,
        "n_layer": 3,
        "n_head": 5,
        "n_inner": 44,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "tie_word_embeddings": True,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    },
    variants={
        "inverse_layer_scale": {"scale_attn_by_inverse_layer_idx": True},
        "unscaled": {"scale_attn_weights": False},
        "off_default": {
            "activation_function": "relu",
            "layer_norm_epsilon": FAR_EPS,
            "tie_word_embeddings": False,
        },
    },
    unexercised={
        "reorder_and_upcast_attn": "moves rounding only, and GPT2Attention raises in exact mode, "
        "where its scores are not float32 (modeling_gpt2.py:134)",
        "add_cross_attention": "reads the states of an encoder, which no prompt here has; without "
        "them its parameters are idle",
    },
    layer_norm=True,
    taps={
        "embed": Tap(module="transformer.wte"),
        "pos_embed": Tap(module="transformer.wpe"),
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
                "attn.q": Tap(module=f"{_LAYER}.attn.c_attn", view=third(0)),
                "attn.k": Tap(module=f"{_LAYER}.attn.c_attn", view=third(1)),
                "attn.v": Tap(module=f"{_LAYER}.attn.c_attn", view=third(2)),
                "attn.z": Tap(module=f"{_LAYER}.attn.c_proj", side="in", view=heads),
                "attn_out": Tap(module=f"{_LAYER}.attn"),
                "resid_mid": Tap(module=f"{_LAYER}.ln_2", side="in"),
                "ln2.out": Tap(module=f"{_LAYER}.ln_2"),
                **plain_mlp(f"{_LAYER}.mlp", into="c_fc", out="c_proj"),
                "mlp_out": Tap(module=f"{_LAYER}.mlp"),
            },
        ),
    ),
    norms={
        "ln1.out": f"{_LAYER}.ln_1",
        "ln2.out": f"{_LAYER}.ln_2",
        "ln_final.out": "transformer.ln_f",
    },
)
