"""OPT: norms before the branches, or after them in OPT-350m.

The decoder layer flattens [batch, pos] before the MLP. Source:
`transformers.models.opt.modeling_opt`.
"""

from __future__ import annotations

from harness.models.families.common import LENGTH, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.heads import Head
from harness.models.layouts import block, layers_where, plain_mlp, separate_qkv
from harness.models.sites import LN_FINAL

_LAYER = "model.decoder.layers.{i}"
_ATTENTION = f"{_LAYER}.self_attn"
_COMMON = {
    **block(_LAYER),
    "ln1.out": Tap(module=f"{_LAYER}.self_attn_layer_norm"),
    **separate_qkv(_ATTENTION, output="out_proj"),
    "attn_out": Tap(module=_ATTENTION),
    "ln2.out": Tap(module=f"{_LAYER}.final_layer_norm"),
    **plain_mlp(_LAYER, into="fc1", out="fc2"),
    "mlp_out": Tap(module=f"{_LAYER}.fc2"),
}

FAMILY = Family(
    name="opt",
    config={
        "model_type": "opt",
        "architectures": ["OPTForCausalLM"],
        "vocab_size": VOCAB,
        "max_position_embeddings": LENGTH,
        "hidden_size": 40,
        "word_embed_proj_dim": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "ffn_dim": 44,
        "do_layer_norm_before": True,
        "_remove_final_layer_norm": False,
        "enable_bias": True,
        "layer_norm_elementwise_affine": True,
        "activation_function": "relu",
        "tie_word_embeddings": True,
        "activation_dropout": 0.0,
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "layerdrop": 0.0,
        "init_std": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "post_norm": {"do_layer_norm_before": False, "word_embed_proj_dim": 28},
        "off_default": {
            "activation_function": "gelu",
            "tie_word_embeddings": False,
        },
        "bare": {
            "enable_bias": False,
            "layer_norm_elementwise_affine": False,
        },
        "no_final_norm": {"_remove_final_layer_norm": True},
    },
    layer_norm=True,
    # Older releases have no such argument, and it works them out from the mask by itself.
    takes_position_ids=False,
    taps={
        "embed": Tap(module="model.decoder.embed_tokens"),
        "pos_embed": Tap(module="model.decoder.embed_positions"),
        "ln_final.out": Tap(module="model.decoder.final_layer_norm"),
    },
    # The middle of the residual stream is what enters the norm between attention and MLP.
    stacks=(
        Stack(
            prefix="blocks",
            n_layers=layers_where(lambda config: config.do_layer_norm_before),
            attention={"attn": _ATTENTION},
            taps={**_COMMON, "resid_mid": Tap(module=f"{_LAYER}.final_layer_norm", side="in")},
        ),
        Stack(
            prefix="blocks",
            n_layers=layers_where(lambda config: not config.do_layer_norm_before),
            post_norm=True,
            attention={"attn": _ATTENTION},
            taps={**_COMMON, "resid_mid": Tap(module=f"{_LAYER}.self_attn_layer_norm", side="in")},
        ),
    ),
    norms={
        "ln1.out": f"{_LAYER}.self_attn_layer_norm",
        "ln2.out": f"{_LAYER}.final_layer_norm",
        "ln_final.out": "model.decoder.final_layer_norm",
    },
    # The bridge folds nothing into a block whose norms stand behind the branches.
    variant_norms={"post_norm": {}},
    head=Head(finish=(LN_FINAL, "model.decoder.project_out")),
)
