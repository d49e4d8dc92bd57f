"""ChatGLM3, by its authors' module: laid out [pos, batch, …] inside, queries with fewer keys.

What `hidden_states[-1]` holds is recorded before `final_layernorm`. Half of each head is turned,
neighbouring pairs together. transformers has no class for it: the reference is the module that
the authors gave to diffusers, and its ports read the checkpoint converted to GLM
(`harness/models/conversion.py`). Attention is fused, so that there are no scores to be read.
Source: `diffusers.pipelines.kolors.text_encoder`, and THUDM/chatglm3-6b on the hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.models.families.common import FAR_EPS, LENGTH, VOCAB
from harness.models.family import Family, Stack, Tap
from harness.models.heads import Convention, Head
from harness.models.layouts import grouped, half, heads, interleaved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from harness.models.family import View

_LAYER = "transformer.encoder.layers.{i}"
_ATTENTION = f"{_LAYER}.self_attention"
_MLP = f"{_LAYER}.mlp"


def batch_first(view: View | None = None) -> View:
    """View [pos, batch, …] as [batch, pos, …], and that through another view."""

    def turned(tensor: Tensor, config: Any) -> Tensor:
        found: Tensor = tensor.transpose(0, 1)
        return found if view is None else view(found, config)

    return turned


def fused(index: int) -> View:
    """View q, k or v of the fused projection: [q | k | v], or per head where keys are as many."""

    def view(tensor: Tensor, config: Any) -> Tensor:
        found = grouped(index) if config.multi_query_attention else interleaved(index)
        return found(tensor, config)

    return view


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Give the names and shapes of the tensors that the hub's layout has for a config."""
    width, ffn, d_head = config["hidden_size"], config["ffn_hidden_size"], config["kv_channels"]
    queries = config["num_attention_heads"]
    keys = config["multi_query_group_num"] if config["multi_query_attention"] else queries
    fused = (queries + 2 * keys) * d_head
    found: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (config["padded_vocab_size"], width),
        "transformer.encoder.final_layernorm.weight": (width,),
        "transformer.output_layer.weight": (config["padded_vocab_size"], width),
    }
    for layer in range(config["num_layers"]):
        path = f"transformer.encoder.layers.{layer}"
        found |= {
            f"{path}.input_layernorm.weight": (width,),
            f"{path}.self_attention.query_key_value.weight": (fused, width),
            f"{path}.self_attention.dense.weight": (width, queries * d_head),
            f"{path}.post_attention_layernorm.weight": (width,),
            f"{path}.mlp.dense_h_to_4h.weight": (2 * ffn, width),
            f"{path}.mlp.dense_4h_to_h.weight": (width, ffn),
        }
        if config["add_qkv_bias"]:
            found[f"{path}.self_attention.query_key_value.bias"] = (fused,)
    return found


FAMILY = Family(
    name="chatglm",
    config={
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "vocab_size": VOCAB,
        "padded_vocab_size": VOCAB,
        "seq_length": LENGTH,
        "hidden_size": 48,
        "ffn_hidden_size": 44,
        "num_layers": 3,
        "num_attention_heads": 6,
        "kv_channels": 8,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "layernorm_epsilon": 1e-5,
        "rmsnorm": True,
        "post_layer_norm": True,
        "apply_residual_connection_post_layernorm": False,
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "original_rope": True,
        "apply_query_key_layer_scaling": True,
        "attention_softmax_in_fp32": True,
        "fp32_residual_connection": False,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "classifier_dropout": None,
        "bias_dropout_fusion": True,
        "quantization_bit": 0,
        "pre_seq_len": None,
        "prefix_projection": False,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    variants={
        "multi_head": {"multi_query_attention": False},
        "off_default": {
            "layernorm_epsilon": FAR_EPS,
            "add_qkv_bias": False,
            "multi_query_group_num": 1,
            "kv_channels": 12,
        },
    },
    shapes=shapes,
    rotary=True,
    taps={
        "embed": Tap(module="transformer.embedding.word_embeddings"),
        "ln_final.out": Tap(module="transformer.encoder.final_layernorm", view=batch_first()),
    },
    stacks=(
        Stack(
            prefix="blocks",
            n_layers=lambda config: config.num_hidden_layers,
            attention={"attn": _ATTENTION},
            taps={
                "resid_pre": Tap(module=_LAYER, side="in", view=batch_first()),
                "ln1.out": Tap(module=f"{_LAYER}.input_layernorm", view=batch_first()),
                **{
                    f"attn.{name}": Tap(
                        module=f"{_ATTENTION}.query_key_value", view=batch_first(fused(place))
                    )
                    for place, name in enumerate("qkv")
                },
                "attn.z": Tap(module=f"{_ATTENTION}.dense", side="in", view=batch_first(heads)),
                "attn_out": Tap(module=_ATTENTION, view=batch_first()),
                "resid_mid": Tap(
                    module=f"{_LAYER}.post_attention_layernorm", side="in", view=batch_first()
                ),
                "ln2.out": Tap(module=f"{_LAYER}.post_attention_layernorm", view=batch_first()),
                "mlp.pre": Tap(module=f"{_MLP}.dense_h_to_4h", view=batch_first(half(0))),
                "mlp.pre_linear": Tap(module=f"{_MLP}.dense_h_to_4h", view=batch_first(half(1))),
                "mlp.post": Tap(module=f"{_MLP}.dense_4h_to_h", side="in", view=batch_first()),
                "mlp_out": Tap(module=_MLP, view=batch_first()),
                "resid_post": Tap(module=_LAYER, view=batch_first()),
            },
        ),
    ),
    head=Head(convention=Convention(finished=False, sequence_first=True)),
)
