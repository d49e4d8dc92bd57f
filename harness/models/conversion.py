"""ChatGLM3's checkpoints as GLM's, which transformers and TransformerLens have: bit for bit.

Strict: a config field or a tensor that GLM cannot represent is refused, with the reason. Rotary
needs no permutation, since both turn neighbouring pairs; the fused projection is split.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any, Final

from safetensors.torch import load_file, save_file

from harness.errors import CheckpointError, UsageError
from harness.models.checkpoints.folder import Checkpoint, cached, open_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

VERSION: Final = 1
"""Raised by whoever changes what this file writes, so that old caches are left alone."""

_READ: Final = frozenset(
    {
        "add_qkv_bias",
        "bos_token_id",
        "eos_token_id",
        "ffn_hidden_size",
        "hidden_size",
        "kv_channels",
        "layernorm_epsilon",
        "multi_query_attention",
        "multi_query_group_num",
        "num_attention_heads",
        "num_layers",
        "pad_token_id",
        "padded_vocab_size",
        "seq_length",
        "vocab_size",
    }
)

_MUST_BE: Final[Mapping[str, tuple[object, str]]] = {
    "add_bias_linear": (False, "GLM's output projection, MLP and head have no biases"),
    "apply_residual_connection_post_layernorm": (False, "GLM adds branches to the stream itself"),
    "fp32_residual_connection": (False, "GLM keeps its stream in the model's dtype"),
    "interleaved_qkv": (False, "the projection is read as [q | k | v]"),
    "original_rope": (True, "GLM turns half of each head, in neighbouring pairs"),
    "post_layer_norm": (True, "GLM has a final norm"),
    "pre_seq_len": (None, "GLM has no prefix before its keys"),
    "prefix_projection": (False, "GLM has no prefix before its keys"),
    "quantization_bit": (0, "GLM's weights are not quantised"),
    "rmsnorm": (True, "GLM's norms are RMSNorms"),
    "rope_ratio": (1, "it divides positions in one revision and multiplies the base in another"),
    "tie_word_embeddings": (False, "the output layer has weights of its own"),
}
"""What a field must be, if it is there, and what GLM lacks where it is not."""

# Of training, of names, and of how the fused attention of torch 2 computes what it computes.
_IDLE: Final = frozenset(
    {
        "_name_or_path",
        "apply_query_key_layer_scaling",
        "architectures",
        "attention_dropout",
        "attention_softmax_in_fp32",
        "auto_map",
        "bias_dropout_fusion",
        "classifier_dropout",
        "dtype",
        "hidden_dropout",
        "model_type",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)

_WHOLE: Final = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_OF_LAYER: Final = {
    "input_layernorm.weight": "input_layernorm.weight",
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "post_attention_layernorm.weight": "post_attention_layernorm.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
}
_FUSED: Final = re.compile(r"self_attention\.query_key_value\.(weight|bias)")
_LAYER: Final = re.compile(r"transformer\.encoder\.layers\.(\d+)\.(.+)")
_DROPPED: Final = re.compile(r".*rotary_pos_emb\.inv_freq")
_TOKENIZER: Final = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def as_glm(checkpoint: Checkpoint) -> Checkpoint:
    """Give the cached GLM checkpoint of a ChatGLM one, converted the first time.

    Raises:
        CheckpointError: it has what GLM cannot represent.
    """
    name = f"chatglm-as-glm-{VERSION}-{checkpoint.digest[:16]}"
    return cached(name, lambda folder: convert(checkpoint, folder))


def convert_folder(folder: Path, out: Path) -> None:
    """Convert a ChatGLM folder into a new GLM folder, which appears only when it is whole.

    Raises:
        UsageError: `out` is there already.
        CheckpointError: the folder is no whole checkpoint, or has what GLM cannot represent.
    """
    if out.exists():
        message = f"{out} is there already; name a folder that is not"
        raise UsageError(message)
    checkpoint = open_folder(folder)
    scratch = out.with_name(f".{out.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        convert(checkpoint, scratch)
        scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def convert(checkpoint: Checkpoint, out: Path) -> None:
    """Write config, weights and tokenizer of a ChatGLM checkpoint into a folder, as GLM's.

    Raises:
        CheckpointError: a field or a tensor is missing, or GLM cannot represent it.
    """
    config = glm_config(checkpoint.config)
    weight_map: dict[str, str] = {}
    for file in sorted(checkpoint.path.glob("*.safetensors")):
        made = glm_tensors(load_file(file), checkpoint.config)
        save_file(made, out / file.name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(made, file.name)
    _check_whole(set(weight_map), config)
    if len(set(weight_map.values())) > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (out / "config.json").write_text(json.dumps(config, indent=2))
    for name in _TOKENIZER:
        if (checkpoint.path / name).is_file():
            shutil.copy(checkpoint.path / name, out / name)


def glm_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give GLM's config.json for ChatGLM's.

    Raises:
        CheckpointError: a field is unknown, missing, or has a value that GLM cannot represent.
    """
    if config.get("model_type") != "chatglm":
        found = config.get("model_type")
        message = f"model_type={found!r}, but should be 'chatglm': this converts nothing else"
        raise CheckpointError(message)
    wrong = [
        f"{name}={config[name]!r}, but should be {value!r}: {reason}"
        for name, (value, reason) in _MUST_BE.items()
        if name in config and config[name] != value
    ]
    wrong += [
        f"{name}={config[name]!r} is a field that the conversion does not know"
        for name in sorted(set(config) - _READ - _IDLE - set(_MUST_BE))
    ]
    needed = _READ - {"bos_token_id", "eos_token_id", "pad_token_id", "vocab_size"}
    wrong += [f"{name} is missing" for name in sorted(needed - set(config))]
    if wrong:
        message = f"config.json cannot be converted to GLM: {'; '.join(wrong)}"
        raise CheckpointError(message)
    queries = config["num_attention_heads"]
    keys = config["multi_query_group_num"] if config["multi_query_attention"] else queries
    return {
        "model_type": "glm",
        "architectures": ["GlmForCausalLM"],
        "vocab_size": config["padded_vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["ffn_hidden_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": queries,
        "num_key_value_heads": keys,
        "head_dim": config["kv_channels"],
        "max_position_embeddings": config["seq_length"],
        "attention_bias": config["add_qkv_bias"],
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "rms_norm_eps": config["layernorm_epsilon"],
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "partial_rotary_factor": 0.5,
        "tie_word_embeddings": False,
        **{
            name: config[name]
            for name in ("bos_token_id", "eos_token_id", "pad_token_id")
            if name in config
        },
    }


def glm_tensors(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Give GLM's tensors for those of one of ChatGLM's files.

    Raises:
        CheckpointError: a tensor has no place in GLM.
    """
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer = _LAYER.fullmatch(name)
        if name in _WHOLE:
            made[_WHOLE[name]] = tensor
        elif layer and layer[2] in _OF_LAYER:
            made[f"model.layers.{layer[1]}.{_OF_LAYER[layer[2]]}"] = tensor
        elif layer and (fused := _FUSED.fullmatch(layer[2])):
            for part, value in zip("qkv", _unfused(tensor, config), strict=True):
                made[f"model.layers.{layer[1]}.self_attn.{part}_proj.{fused[1]}"] = value
        elif not _DROPPED.fullmatch(name):
            message = f"{name} has no place in GLM; the conversion would lose it"
            raise CheckpointError(message)
    return made


def _unfused(tensor: Tensor, config: Mapping[str, Any]) -> list[Tensor]:
    """Split the fused projection, over its first axis, into queries, keys and values."""
    queries, d_head = config["num_attention_heads"], config["kv_channels"]
    if config["multi_query_attention"]:
        keys = config["multi_query_group_num"]
        sizes = [queries * d_head, keys * d_head, keys * d_head]
        return [part.contiguous() for part in tensor.split(sizes)]
    by_head = tensor.unflatten(0, (queries, 3, d_head))
    return [by_head[:, place].flatten(0, 1).contiguous() for place in range(3)]


def _check_whole(names: set[str], config: Mapping[str, Any]) -> None:
    wanted = set(_WHOLE.values())
    for layer in range(config["num_hidden_layers"]):
        path = f"model.layers.{layer}"
        wanted |= {f"{path}.{name}" for name in _OF_LAYER.values()}
        kinds = ("weight", "bias") if config["attention_bias"] else ("weight",)
        wanted |= {f"{path}.self_attn.{part}_proj.{kind}" for part in "qkv" for kind in kinds}
    if odd := sorted(names ^ wanted):
        message = f"tensors and config do not fit: GLM's {', '.join(odd[:6])} missing or left over"
        raise CheckpointError(message)
