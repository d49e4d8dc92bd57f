"""GPT-NeoX (Pythia): q, k, v fused per head; rotary on part of each head; parallel residual.

Source: `transformers.models.gpt_neox.modeling_gpt_neox`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, LINEAR_ROPE, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.layouts import block, heads, interleaved, layers_where, plain_mlp

_LAYER = "gpt_neox.layers.{i}"
_ATTENTION = f"{_LAYER}.attention"
_PARALLEL = {
    **block(_LAYER),
    "ln1.out": Tap(module=f"{_LAYER}.input_layernorm"),
    "attn.q": Tap(module=f"{_ATTENTION}.query_key_value", view=interleaved(0)),
    "attn.k": Tap(module=f"{_ATTENTION}.query_key_value", view=interleaved(1)),
    "attn.v": Tap(module=f"{_ATTENTION}.query_key_value", view=interleaved(2)),
    "attn.z": Tap(module=f"{_ATTENTION}.dense", side="in", view=heads),
    "attn_out": Tap(module=_ATTENTION),
    "ln2.out": Tap(module=f"{_LAYER}.post_attention_layernorm"),
    **plain_mlp(f"{_LAYER}.mlp", into="dense_h_to_4h", out="dense_4h_to_h"),
    "mlp_out": Tap(module=f"{_LAYER}.mlp"),
}

FAMILY = Family(
    name="gpt_neox",
    config={
        "model_type": "gpt_neox",
        "architectures": ["GPTNeoXForCausalLM"],
        "vocab_size": VOCAB,
        "max_position_embeddings": LENGTH,
        "hidden_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "intermediate_size": 92,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "rope_scaling": None,
        "use_parallel_residual": True,
        "attention_bias": True,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "sequential_residual": {"use_parallel_residual": False},
        "no_attention_bias": {"attention_bias": False},
        "off_default": {
            "hidden_act": "relu",
            "layer_norm_eps": FAR_EPS,
            "rotary_pct": 0.5,
            "rotary_emb_base": 50000,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": True,
        },
    },
    layer_norm=True,
    rotary=True,
    taps={
        "embed": Tap(module="gpt_neox.embed_in"),
        "ln_final.out": Tap(module="gpt_neox.final_layer_norm"),
    },
    # In a parallel block the second norm reads what the first reads: there is no resid_mid.
    stacks=(
        Stack(
            prefix="blocks",
            n_layers=layers_where(lambda config: config.use_parallel_residual),
            attention={"attn": _ATTENTION},
            taps=_PARALLEL,
        ),
        Stack(
            prefix="blocks",
            n_layers=layers_where(lambda config: not config.use_parallel_residual),
            attention={"attn": _ATTENTION},
            taps={
                **_PARALLEL,
                "resid_mid": Tap(module=f"{_LAYER}.post_attention_layernorm", side="in"),
            },
        ),
    ),
    norms={
        "ln1.out": f"{_LAYER}.input_layernorm",
        "ln2.out": f"{_LAYER}.post_attention_layernorm",
        "ln_final.out": "gpt_neox.final_layer_norm",
    },
)
