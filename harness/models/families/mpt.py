"""MPT: ALiBi counted from the end, norms without bias, no bias anywhere.

The MLP returns the residual stream with its output already added. `learned_pos_emb`,
`expansion_ratio`, `alibi_bias_max`, `no_bias` and `logit_scale` are on the hub and not read.
Source: `transformers.models.mpt.modeling_mpt`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.layouts import block, heads, plain_mlp, third

_LAYER = "transformer.blocks.{i}"
_ATTENTION = {
    "attn_type": "multihead_attention",
    "attn_pdrop": 0,
    "attn_impl": "torch",
    "clip_qkv": None,
    "softmax_scale": None,
    "prefix_lm": False,
    "qk_ln": False,
    "attn_uses_sequence_id": False,
    "alibi": True,
    "alibi_bias_max": 8,
}

FAMILY = Family(
    name="mpt",
    config={
        "model_type": "mpt",
        "architectures": ["MptForCausalLM"],
        "vocab_size": VOCAB,
        "max_seq_len": LENGTH,
        "d_model": 20,
        "n_layers": 3,
        "n_heads": 4,
        "expansion_ratio": 4,
        "layer_norm_epsilon": 1e-5,
        "attn_config": _ATTENTION,
        "norm_type": "low_precision_layernorm",
        "no_bias": True,
        "learned_pos_emb": True,
        "logit_scale": None,
        "tie_word_embeddings": True,
        "emb_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "odd_heads": {"n_heads": 7, "d_model": 35},
        # Low enough to clip about a third of the values of a standard normal.
        "clipped_qkv": {"attn_config": {**_ATTENTION, "clip_qkv": 1.0}},
        "softmax_scale": {"attn_config": {**_ATTENTION, "softmax_scale": 0.3}},
        "off_default": {
            "layer_norm_epsilon": FAR_EPS,
            "tie_word_embeddings": False,
        },
    },
    layer_norm=True,
    takes_position_ids=False,
    taps={
        "embed": Tap(module="transformer.wte"),
        "ln_final.out": Tap(module="transformer.norm_f"),
    },
    stacks=(
        Stack(
            prefix="blocks",
            n_layers=lambda config: config.n_layers,
            attention={"attn": f"{_LAYER}.attn"},
            taps={
                **block(_LAYER),
                "ln1.out": Tap(module=f"{_LAYER}.norm_1"),
                "attn.q": Tap(module=f"{_LAYER}.attn.Wqkv", view=third(0)),
                "attn.k": Tap(module=f"{_LAYER}.attn.Wqkv", view=third(1)),
                "attn.v": Tap(module=f"{_LAYER}.attn.Wqkv", view=third(2)),
                "attn.z": Tap(module=f"{_LAYER}.attn.out_proj", side="in", view=heads),
                "attn_out": Tap(module=f"{_LAYER}.attn"),
                "resid_mid": Tap(module=f"{_LAYER}.norm_2", side="in"),
                "ln2.out": Tap(module=f"{_LAYER}.norm_2"),
                **plain_mlp(f"{_LAYER}.ffn", into="up_proj", out="down_proj"),
                "mlp_out": Tap(module=f"{_LAYER}.ffn.down_proj"),
            },
        ),
    ),
    norms={
        "ln1.out": f"{_LAYER}.norm_1",
        "ln2.out": f"{_LAYER}.norm_2",
        "ln_final.out": "transformer.norm_f",
    },
)
