"""Persimmon: q, k and v fused per head and normed, half of every head turned, squared ReLU.

Source: `transformers.models.persimmon.modeling_persimmon`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, IMPLIED_HEAD_SIZES, LINEAR_ROPE
from harness.models.family import REMOVED, Family, Stack, Tap
from harness.models.layouts import block, heads, interleaved, plain_mlp

_LAYER = "model.layers.{i}"
_ATTENTION = f"{_LAYER}.self_attn"
_NORMS = {
    "ln1.out": f"{_LAYER}.input_layernorm",
    "ln2.out": f"{_LAYER}.post_attention_layernorm",
}

FAMILY = Family(
    name="persimmon",
    config={
        **{
            name: value
            for name, value in IMPLIED_HEAD_SIZES.items()
            if name != "num_key_value_heads"
        },
        "model_type": "persimmon",
        "architectures": ["PersimmonForCausalLM"],
        "hidden_act": "relu2",
        "layer_norm_eps": 1e-5,
        "rope_theta": 25000.0,
        "rope_scaling": None,
        "partial_rotary_factor": 0.5,
        "qk_layernorm": True,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "tie_word_embeddings": False,
    },
    variants={
        # The default was 25000 until transformers 4.57 and is 10000 since 5.0.
        "default_rope_theta": {"rope_theta": REMOVED},
        "no_qk_layernorm": {"qk_layernorm": False},
        "off_default": {
            "hidden_act": "gelu",
            "layer_norm_eps": FAR_EPS,
            "partial_rotary_factor": 0.25,
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
                **{site: Tap(module=module) for site, module in _NORMS.items()},
                "attn.q": Tap(module=f"{_ATTENTION}.query_key_value", view=interleaved(0)),
                "attn.k": Tap(module=f"{_ATTENTION}.query_key_value", view=interleaved(1)),
                "attn.v": Tap(module=f"{_ATTENTION}.query_key_value", view=interleaved(2)),
                "attn.z": Tap(module=f"{_ATTENTION}.dense", side="in", view=heads),
                "attn_out": Tap(module=_ATTENTION),
                "resid_mid": Tap(module=_NORMS["ln2.out"], side="in"),
                **plain_mlp(f"{_LAYER}.mlp", into="dense_h_to_4h", out="dense_4h_to_h"),
                "mlp_out": Tap(module=f"{_LAYER}.mlp"),
            },
        ),
    ),
    norms={**_NORMS, "ln_final.out": "model.final_layernorm"},
)
