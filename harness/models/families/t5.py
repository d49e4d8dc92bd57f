"""T5: an encoder and a decoder, relative position biases shared by all layers, unscaled scores.

In the decoder `ln2.out` is the norm before cross-attention, as TransformerLens names it. `gated`
is T5 1.1 and Flan-T5. Source: `transformers.models.t5.modeling_t5`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.models.families.common import FAR_EPS, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.heads import Head, output_embeddings, scaled_by_width
from harness.models.layouts import block, heads

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENCODER = "encoder.block.{i}"
_DECODER = "decoder.block.{i}"


_DERIVED = "derived from feed_forward_proj; a config in which the two differ makes no sense"


def _attention(name: str, path: str) -> Mapping[str, Tap]:
    return {
        f"{name}.q": Tap(module=f"{path}.q", view=heads),
        f"{name}.k": Tap(module=f"{path}.k", view=heads),
        f"{name}.v": Tap(module=f"{path}.v", view=heads),
        f"{name}.z": Tap(module=f"{path}.o", side="in", view=heads),
        f"{name}_out": Tap(module=path),
    }


def _mlp(path: str, *, gated: bool) -> Mapping[str, Tap]:
    into = {"mlp.pre": "wi_0", "mlp.pre_linear": "wi_1"} if gated else {"mlp.pre": "wi"}
    return {
        **{site: Tap(module=f"{path}.{linear}") for site, linear in into.items()},
        "mlp.post": Tap(module=f"{path}.wo", side="in"),
        "mlp_out": Tap(module=path),
    }


def _stacks(*, gated: bool) -> tuple[Stack, Stack]:
    return (
        Stack(
            prefix="encoder_blocks",
            n_layers=lambda config: config.num_layers * (config.is_gated_act is gated),
            attention={"attn": f"{_ENCODER}.layer.0.SelfAttention"},
            taps={
                **block(_ENCODER),
                "ln1.out": Tap(module=f"{_ENCODER}.layer.0.layer_norm"),
                **_attention("attn", f"{_ENCODER}.layer.0.SelfAttention"),
                "resid_mid": Tap(module=f"{_ENCODER}.layer.1", side="in"),
                "ln2.out": Tap(module=f"{_ENCODER}.layer.1.layer_norm"),
                **_mlp(f"{_ENCODER}.layer.1.DenseReluDense", gated=gated),
            },
        ),
        Stack(
            prefix="decoder_blocks",
            n_layers=lambda config: config.num_decoder_layers * (config.is_gated_act is gated),
            attention={
                "attn": f"{_DECODER}.layer.0.SelfAttention",
                "cross_attn": f"{_DECODER}.layer.1.EncDecAttention",
            },
            taps={
                **block(_DECODER),
                "ln1.out": Tap(module=f"{_DECODER}.layer.0.layer_norm"),
                **_attention("attn", f"{_DECODER}.layer.0.SelfAttention"),
                "resid_mid": Tap(module=f"{_DECODER}.layer.1", side="in"),
                "ln2.out": Tap(module=f"{_DECODER}.layer.1.layer_norm"),
                **_attention("cross_attn", f"{_DECODER}.layer.1.EncDecAttention"),
                "resid_mid_cross": Tap(module=f"{_DECODER}.layer.2", side="in"),
                "ln3.out": Tap(module=f"{_DECODER}.layer.2.layer_norm"),
                **_mlp(f"{_DECODER}.layer.2.DenseReluDense", gated=gated),
            },
        ),
    )


FAMILY = Family(
    name="t5",
    auto_class="AutoModelForSeq2SeqLM",
    config={
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "vocab_size": VOCAB,
        "d_model": 28,
        "d_kv": 8,
        "d_ff": 44,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 5,
        # Few buckets and a short reach, so that prompts pass both.
        "relative_attention_num_buckets": 12,
        "relative_attention_max_distance": 20,
        "feed_forward_proj": "relu",
        "layer_norm_epsilon": 1e-6,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "dropout_rate": 0.0,
        "initializer_factor": 1.0,
        "decoder_start_token_id": 3,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "gated": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        "off_default": {
            "layer_norm_epsilon": FAR_EPS,
        },
    },
    unexercised={
        "dense_act_fn": _DERIVED,
        "is_gated_act": _DERIVED,
        "scale_decoder_outputs": "transformers 5.23 derives it from tie_word_embeddings, which "
        "`gated` unties; transformers 4 cannot spell it",
    },
    causal=False,
    takes_position_ids=False,
    taps={
        # Not at the embedding: in transformers 4 the decoder's is the same module.
        "embed": Tap(module="encoder.block.0", side="in"),
        "encoder_ln_final.out": Tap(module="encoder.final_layer_norm"),
        "ln_final.out": Tap(module="decoder.final_layer_norm"),
    },
    stacks=(*_stacks(gated=False), *_stacks(gated=True)),
    head=Head(steps=(scaled_by_width, output_embeddings), output="decoder_hidden_states"),
)
