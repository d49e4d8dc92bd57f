"""BERT: an encoder with its norms after the branches.

The norms close attention and MLP: what leaves a branch and the middle of the residual stream are
read before them, at the branch's last linear map and at the norm's input. Source:
`transformers.models.bert.modeling_bert`.
"""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, LENGTH, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.heads import Head, module, output_embeddings
from harness.models.layouts import block, heads

_LAYER = "bert.encoder.layer.{i}"
_ATTENTION = f"{_LAYER}.attention"

FAMILY = Family(
    name="bert",
    auto_class="AutoModelForMaskedLM",
    config={
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "vocab_size": VOCAB,
        "max_position_embeddings": LENGTH,
        "type_vocab_size": 2,
        "hidden_size": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "intermediate_size": 44,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "off_default": {
            "hidden_act": "relu",
            "layer_norm_eps": FAR_EPS,
            "type_vocab_size": 6,
            "tie_word_embeddings": False,
        },
    },
    unexercised={
        "is_decoder": "a BERT that does not see the future is BertLMHeadModel, which has no port",
        "add_cross_attention": "the class takes it with is_decoder only",
        "chunk_size_feed_forward": "runs the MLP in pieces of the prompt, at whose modules no site "
        "can be read whole; it moves rounding only",
    },
    layer_norm=True,
    causal=False,
    taps={
        "embed": Tap(module="bert.embeddings.word_embeddings"),
        "pos_embed": Tap(module="bert.embeddings.position_embeddings"),
        "embed_ln.out": Tap(module="bert.embeddings.LayerNorm"),
        "ln_final.out": Tap(module="cls.predictions.transform.LayerNorm"),
    },
    stacks=(
        Stack(
            prefix="blocks",
            n_layers=lambda config: config.num_hidden_layers,
            attention={"attn": f"{_ATTENTION}.self"},
            post_norm=True,
            taps={
                **block(_LAYER),
                "attn.q": Tap(module=f"{_ATTENTION}.self.query", view=heads),
                "attn.k": Tap(module=f"{_ATTENTION}.self.key", view=heads),
                "attn.v": Tap(module=f"{_ATTENTION}.self.value", view=heads),
                "attn.z": Tap(module=f"{_ATTENTION}.output.dense", side="in", view=heads),
                "attn_out": Tap(module=f"{_ATTENTION}.output.dense"),
                "resid_mid": Tap(module=f"{_ATTENTION}.output.LayerNorm", side="in"),
                "ln1.out": Tap(module=f"{_ATTENTION}.output.LayerNorm"),
                "mlp.pre": Tap(module=f"{_LAYER}.intermediate.dense"),
                "mlp.post": Tap(module=f"{_LAYER}.output.dense", side="in"),
                "mlp_out": Tap(module=f"{_LAYER}.output.dense"),
                "ln2.out": Tap(module=f"{_LAYER}.output.LayerNorm"),
            },
        ),
    ),
    head=Head(finish=(), steps=(module("cls.predictions.transform"), output_embeddings)),
)
