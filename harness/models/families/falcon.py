"""Falcon: three block layouts under one name, rotary or ALiBi.

The default is Falcon-7B (one key-value head, parallel), `alibi` Falcon-RW-1B (sequential, biases),
`new_decoder` Falcon-40B (key-value groups, two norms side by side), `new_decoder_one_norm`
Falcon2-11B. Source: `transformers.models.falcon.modeling_falcon`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, LINEAR_ROPE, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.layouts import block, by_group, heads, layers_where, plain_mlp

_LAYER = "transformer.h.{i}"
_ATTENTION = f"{_LAYER}.self_attention"
_COMMON = {
    **block(_LAYER),
    "attn.q": Tap(module=f"{_ATTENTION}.query_key_value", view=by_group(0)),
    "attn.k": Tap(module=f"{_ATTENTION}.query_key_value", view=by_group(1)),
    "attn.v": Tap(module=f"{_ATTENTION}.query_key_value", view=by_group(2)),
    "attn.z": Tap(module=f"{_ATTENTION}.dense", side="in", view=heads),
    "attn_out": Tap(module=_ATTENTION),
    **plain_mlp(f"{_LAYER}.mlp", into="dense_h_to_4h", out="dense_4h_to_h"),
    "mlp_out": Tap(module=f"{_LAYER}.mlp"),
}
_NEW_DECODER = {
    "new_decoder_architecture": True,
    "num_attention_heads": 6,
    "num_kv_heads": 2,
    "hidden_size": 48,
}
_TWO_NORMS = {
    "ln1.out": f"{_LAYER}.ln_attn",
    "ln2.out": f"{_LAYER}.ln_mlp",
    "ln_final.out": "transformer.ln_f",
}

FAMILY = Family(
    name="falcon",
    config={
        "model_type": "falcon",
        "architectures": ["FalconForCausalLM"],
        "vocab_size": VOCAB,
        "max_position_embeddings": LENGTH,
        "hidden_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "num_kv_heads": 5,
        "ffn_hidden_size": 44,
        "new_decoder_architecture": False,
        "multi_query": True,
        "parallel_attn": True,
        "num_ln_in_parallel_attn": None,
        "alibi": False,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "bias": False,
        "activation": "gelu",
        "layer_norm_epsilon": 1e-5,
        "apply_residual_connection_post_layernorm": False,
        "tie_word_embeddings": True,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "alibi": {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
        "new_decoder_alibi": {
            **_NEW_DECODER,
            "num_ln_in_parallel_attn": 2,
            "alibi": True,
            "ffn_hidden_size": 4 * 48,  # what transformers 4.39 takes, whatever the config says
        },
        "new_decoder": {**_NEW_DECODER, "num_ln_in_parallel_attn": 2},
        # transformers ignores the flag in this architecture: the same model as new_decoder.
        "new_decoder_multi_query_off": {
            **_NEW_DECODER,
            "num_ln_in_parallel_attn": 2,
            "multi_query": False,
        },
        "new_decoder_one_norm": {
            **_NEW_DECODER,
            "num_ln_in_parallel_attn": 1,
            "rope_theta": 500042.0,
        },
        "off_default": {
            "activation": "relu",
            "layer_norm_epsilon": FAR_EPS,
            "rope_scaling": LINEAR_ROPE,
            "tie_word_embeddings": False,
        },
    },
    layer_norm=True,
    rotary=True,
    taps={
        "embed": Tap(module="transformer.word_embeddings"),
        "ln_final.out": Tap(module="transformer.ln_f"),
    },
    # Modules that a variant lacks are left out; what the two stacks tell apart is ln1 and ln2.
    stacks=(
        Stack(
            prefix="blocks",
            n_layers=layers_where(lambda config: config.num_ln_in_parallel_attn == 2),  # noqa: PLR2004
            attention={"attn": _ATTENTION},
            taps={
                **_COMMON,
                "ln1.out": Tap(module=f"{_LAYER}.ln_attn"),
                "ln2.out": Tap(module=f"{_LAYER}.ln_mlp"),
            },
        ),
        Stack(
            prefix="blocks",
            n_layers=layers_where(lambda config: config.num_ln_in_parallel_attn != 2),  # noqa: PLR2004
            attention={"attn": _ATTENTION},
            taps={
                **_COMMON,
                "ln1.out": Tap(module=f"{_LAYER}.input_layernorm"),
                "resid_mid": Tap(module=f"{_LAYER}.post_attention_layernorm", side="in"),
                "ln2.out": Tap(module=f"{_LAYER}.post_attention_layernorm"),
            },
        ),
    ),
    norms={
        "ln1.out": f"{_LAYER}.input_layernorm",
        "ln2.out": f"{_LAYER}.post_attention_layernorm",
        "ln_final.out": "transformer.ln_f",
    },
    variant_norms=dict.fromkeys(
        ("new_decoder", "new_decoder_alibi", "new_decoder_multi_query_off"), _TWO_NORMS
    ),
)
