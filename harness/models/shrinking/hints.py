"""Where a model type needs help to become small: one line each, with its reason. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Hint:
    """Why a type needs help, and the fields that are set after all others were made small."""

    because: str
    fields: Mapping[str, Any]


_MAMBA: Final = "its Mamba heads must fill twice d_model, 64; one layer of each kind"
_NO_DEFAULT: Final = "the class has no default that builds"
_PERIOD: Final = "layers of both kinds come by a period that is longer than the small model"
_SHARED: Final = "the last layers take keys and values of earlier ones of their kind"

HINTS: Final[Mapping[str, Hint]] = {
    "bamba": Hint(_MAMBA, {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1]}),
    "cohere_compass_text": Hint(
        _NO_DEFAULT,
        {
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_section": [2, 1, 1],
                }
            }
        },
    ),
    "deepseek_v2": Hint(_NO_DEFAULT, {"num_experts_per_tok": 2, "first_k_dense_replace": 1}),
    "dots1": Hint(
        _NO_DEFAULT,
        {
            "n_routed_experts": 4,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "max_window_layers": 1,
        },
    ),
    "dots3_note_text": Hint(
        "a layer's own sizes hide behind its kind",
        {"layer_types": ["full_attention", "full_attention"], "per_layer_config": {}},
    ),
    "gemma3n_text": Hint(
        _SHARED,
        {
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "activation_sparsity_pattern": [0.5, 0.0, 0.5, 0.0],
        },
    ),
    "granitemoehybrid": Hint(
        _MAMBA, {"mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba", "attention"]}
    ),
    "lfm2_moe": Hint(
        _NO_DEFAULT,
        {
            "num_hidden_layers": 3,
            "num_dense_layers": 1,
            "layer_types": ["conv", "full_attention", "conv"],
        },
    ),
    "longcat_flash": Hint("heads are rotated whole", {"head_dim": 4}),
    "mamba2": Hint("its heads must fill twice d_model, 64", {"num_heads": 8}),
    "qwen4_exp_text": Hint(
        _NO_DEFAULT,
        {
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 8,
            "indexer_budget": 8,
            "indexer_compress_ratio": 2,
        },
    ),
    "neomme": Hint("two axes share the rotated part", {"head_dim": 16}),
    "esm": Hint(_NO_DEFAULT, {"vocab_size": 96, "pad_token_id": 3, "mask_token_id": 4}),
    "reformer": Hint(
        "its axes must fill d_model and the length",
        {
            "attn_layers": ["local", "lsh"],
            "axial_pos_shape": [4, 6],
            "axial_pos_embds_dim": [8, 24],
            "num_buckets": 4,
            "hash_seed": 1,
        },
    ),
    "xlstm": Hint(
        "inner widths are rounded up to 64",
        {"hidden_size": 64, "embedding_dim": 64, "qk_dim_factor": 1.0, "chunk_size": 16},
    ),
    "xmod": Hint("it must be told which language it reads", {"default_language": "en_XX"}),
    "zamba2": Hint(
        _PERIOD,
        {
            "num_hidden_layers": 4,
            "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        },
    ),
}
