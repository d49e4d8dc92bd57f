"""GPT-Neo: global and windowed attention in turn, no scale on the scores.

Source: `transformers.models.gpt_neo.modeling_gpt_neo`.
"""

from __future__ import annotations

from harness.models.families.common import LENGTH, VOCAB, WINDOW
from harness.models.family import Family, Stack, Tap
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
