"""GPTBigCode (SantaCoder, StarCoder): GPT-2 with one key-value head.

Source: `transformers.models.gpt_bigcode.modeling_gpt_bigcode`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.layouts import block, by_group, heads, plain_mlp

_LAYER = "transformer.h.{i}"

FAMILY = Family(
    name="gpt_bigcode",
    config={
        "model_type": "gpt_bigcode",
        "architectures": ["GPTBigCodeForCausalLM"],
        "vocab_size": VOCAB,
        "n_positions": LENGTH,
        "n_embd": 20,
        "n_layer": 3,
        "n_head": 5,
        "n_inner": 44,
        "multi_query": True,
        "activation_function": "gelu_pytorch_tanh",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "attention_softmax_in_fp32": True,
        "scale_attention_softmax_in_fp32": True,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "multi_head": {"multi_query": False},
        "unscaled": {"scale_attn_weights": False},
        "off_default": {
            "activation_function": "relu",
            "layer_norm_epsilon": FAR_EPS,
            "tie_word_embeddings": False,
        },
    },
    unexercised={
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
                # With several heads q, k, v are fused per head; with one key-value head that
                # is the same as [q | k | v].
                "attn.q": Tap(module=f"{_LAYER}.attn.c_attn", view=by_group(0)),
                "attn.k": Tap(module=f"{_LAYER}.attn.c_attn", view=by_group(1)),
                "attn.v": Tap(module=f"{_LAYER}.attn.c_attn", view=by_group(2)),
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
