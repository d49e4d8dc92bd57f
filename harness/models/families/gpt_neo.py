"""GPT-Neo: global and windowed attention in turn, no scale on the scores.

Source: `transformers.models.gpt_neo.modeling_gpt_neo`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, VOCAB, WINDOW
from harness.models.family import REMOVED, Family, Stack, Tap
from harness.models.layouts import block, plain_mlp, separate_qkv

_LAYER = "transformer.h.{i}"
_ATTENTION = f"{_LAYER}.attn.attention"

FAMILY = Family(
    name="gpt_neo",
    config={
        "model_type": "gpt_neo",
        "architectures": ["GPTNeoForCausalLM"],
        "vocab_size": VOCAB,
        "max_position_embeddings": LENGTH,
        "hidden_size": 40,
        "num_layers": 4,
        "num_heads": 5,
        "intermediate_size": 44,
        "attention_types": [[["global", "local"], 2]],
        "attention_layers": ["global", "local", "global", "local"],
        "window_size": WINDOW,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "attention_dropout": 0.0,
        "embed_dropout": 0.0,
        "resid_dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "off_default": {
            "attention_types": [[["local", "global"], 2]],
            "attention_layers": REMOVED,
            "activation_function": "relu",
            "layer_norm_epsilon": FAR_EPS,
            "tie_word_embeddings": False,
        },
    },
    unexercised={
        "attention_layers": "attention_types written out, which the hub repeats; a config in which "
        "the two differ makes no sense",
        "num_layers": "4 in every variant, of 24 by default; the class refuses another number "
        "beside the same attention_types, so that it cannot change alone",
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
            n_layers=lambda config: config.num_layers,
            attention={"attn": _ATTENTION},
            taps={
                **block(_LAYER),
                "ln1.out": Tap(module=f"{_LAYER}.ln_1"),
                **separate_qkv(_ATTENTION, output="out_proj"),
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
