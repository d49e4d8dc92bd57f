"""BLOOM: ALiBi, q, k, v fused per head, a norm after the embedding.

Attention and MLP return the residual stream with their own output already added, so that what
leaves the branch is read at their last linear map. Source:
`transformers.models.bloom.modeling_bloom`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.layouts import block, heads, interleaved, plain_mlp

_LAYER = "transformer.h.{i}"
_ATTENTION = f"{_LAYER}.self_attention"

FAMILY = Family(
    name="bloom",
    config={
        "model_type": "bloom",
        "architectures": ["BloomForCausalLM"],
        "vocab_size": VOCAB,
        "n_embed": 20,
        "n_layer": 3,
        "num_attention_heads": 4,
        "layer_norm_epsilon": 1e-5,
        "apply_residual_connection_post_layernorm": False,
        "pretraining_tp": 1,
        "slow_but_exact": False,
        "tie_word_embeddings": True,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
        "unk_token_id": 0,
    },
    variants={
        "odd_heads": {"num_attention_heads": 7, "n_embed": 35},
        "residual_after_norm": {"apply_residual_connection_post_layernorm": True},
        "off_default": {
            "layer_norm_epsilon": FAR_EPS,
            "tie_word_embeddings": False,
        },
    },
    layer_norm=True,
    takes_position_ids=False,
    alibi_from_start=True,
    taps={
        "embed": Tap(module="transformer.word_embeddings"),
        "embed_ln.out": Tap(module="transformer.word_embeddings_layernorm"),
        "ln_final.out": Tap(module="transformer.ln_f"),
    },
    stacks=(
        Stack(
            prefix="blocks",
            n_layers=lambda config: config.n_layer,
            attention={"attn": _ATTENTION},
            taps={
                **block(_LAYER),
                "ln1.out": Tap(module=f"{_LAYER}.input_layernorm"),
                "attn.q": Tap(module=f"{_ATTENTION}.query_key_value", view=interleaved(0)),
                "attn.k": Tap(module=f"{_ATTENTION}.query_key_value", view=interleaved(1)),
                "attn.v": Tap(module=f"{_ATTENTION}.query_key_value", view=interleaved(2)),
                "attn.z": Tap(module=f"{_ATTENTION}.dense", side="in", view=heads),
                "attn_out": Tap(module=f"{_ATTENTION}.dense"),
                "resid_mid": Tap(module=f"{_LAYER}.post_attention_layernorm", side="in"),
                "ln2.out": Tap(module=f"{_LAYER}.post_attention_layernorm"),
                **plain_mlp(f"{_LAYER}.mlp", into="dense_h_to_4h", out="dense_4h_to_h"),
                "mlp_out": Tap(module=f"{_LAYER}.mlp.dense_4h_to_h"),
            },
        ),
    ),
    norms={
        "ln1.out": f"{_LAYER}.input_layernorm",
        "ln2.out": f"{_LAYER}.post_attention_layernorm",
        "ln_final.out": "transformer.ln_f",
    },
)
