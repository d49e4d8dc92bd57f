"""How small each size-like field of a config becomes, by the field's name. Data and sums only.

A field is only ever made smaller, and every other one keeps its value. Different sizes get
different numbers where the class allows it, so that a swapped axis cannot go unseen.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

D_MODEL: Final = 32
N_HEADS: Final = 4
_KEY_HEADS: Final = 2
D_HEAD: Final = 8
VOCABULARY: Final = 96
LENGTH: Final = 24
"""The longest prompt; every window lies below it."""

LAYERS: Final = "layers"
"""Stands for the number of layers, which an attempt chooses."""

# The first pattern that is found in a field's name says its size.
_SIZES: Final[tuple[tuple[str, int | str], ...]] = (
    (r"vocab_size|^n_words$|^n_token$|vocab_size_per_layer_input|group_vocab$", VOCABULARY),
    (r"^first_k_dense_replace$|^num_dense_layers$", 1),
    (r"(^|_)(num|n)_(hidden_|decoder_|encoder_)?layers?$|(en|de)coder_layers$", LAYERS),
    (r"num_blocks$|_layers_per_stack$", LAYERS),
    (r"(ssm|mamba|linear_num_\w+|gdn\w*|kda\w*)_heads$|^mamba_num_heads$", 8),
    (
        r"(^|_)(n_|num_)?(key_value|kv)_heads?$|num_query_groups$|num_kv_heads|index_topk_heads",
        _KEY_HEADS,
    ),
    (r"n_groups?$|num_groups?$|n_group$", 2),
    (r"topk_group$|n_shared_experts|num_shared_experts|_nextn_predict_layers", 1),
    (r"heads?$", N_HEADS),
    (r"experts?_per_tok(en)?$|top_?k(_experts|_router)?$|moe_k$|num_selected_experts", 2),
    (r"n_\w*experts$|num_\w*experts$|^num_experts", 4),
    (r"lora_rank$|_rank$|low_rank\w*$", 6),
    (r"rope_head_dim$|^rotary_dim$|qk_rope_dim", 4),
    (r"head_dim$|head_size$|^d_kv$|kv_channels|d_head$|head_width", D_HEAD),
    (r"moe\w*intermediate|shared\w*intermediate|expert_\w*(dim|size)$", 24),
    (r"intermediate|ffn|n_inner|^d_ff|feed_?forward|mlp_dim|_inner_dim", 48),
    (r"(^|_)(hidden_size|d_model|n_embd|dim_model|embedding_size|emb_dim|embed_dim)$", D_MODEL),
    (r"(^|_)(lru_width|hidden_dim|dim|width|embed_proj_dim)$", D_MODEL),
    (r"(^|_)(embedding_dim|projection_dim)$", D_MODEL),
    (r"original_max_position|original_max_len", 9),
    (
        r"max_(encoder_|decoder_)?position|n_positions|^n_ctx$|max_seq|seq_len|seq_length|context_length",
        LENGTH,
    ),
    (r"max_(target|source)_positions|max_length|max_sequence_length", LENGTH),
    (r"local_attention|attention_window", 6),
    (r"attention_chunk_size|window", 5),
    (r"state_size|d_state|_state_dim", 8),
    (r"chunk_size|chunk_len|block_size", 4),
    (r"indexer?_topk$|index_topk", 5),
)

_SPECIAL: Final = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
    "decoder_start_token_id": 1,
}
N_SPECIAL: Final = 4
"""Below here lie the special tokens."""
_TOKEN: Final = re.compile(r"_token_(id|index)$|_token_ids$|^(image|audio|video)_token")
_ORDINARY: Final = VOCABULARY - 16
"""From here on tokens of pictures, sounds and the like are put: prompts rarely name them."""


def size_of(name: str) -> int | str | None:
    """Give the size of a field; LAYERS for a number of layers, None for what is no size."""
    return next((size for pattern, size in _SIZES if re.search(pattern, name)), None)


def shrunk(config: Mapping[str, Any], *, layers: int) -> dict[str, Any]:
    """Give a config with its size-like fields made small, nested configs too.

    Lists with an entry for each layer are cut so that every kind of entry is left; `layers` should
    be at least their number.
    """
    small: dict[str, Any] = {}
    depth = depth_of(config)
    width = config.get("hidden_size", config.get("d_model"))
    for name, value in config.items():
        if isinstance(value, (bool, str)) or value is None or not isinstance(name, str):
            small[name] = value
        elif isinstance(value, dict):
            small[name] = shrunk(value, layers=layers)
        elif isinstance(value, int):
            small[name] = _number(name, value, layers=layers, config=config, width=width)
        elif isinstance(value, (list, tuple)):
            small[name] = _list(name, value, depth=depth, layers=layers)
        else:
            small[name] = value
    return _with_few_tokens(small)


def _list(name: str, entries: list[Any] | tuple[Any, ...], *, depth: int, layers: int) -> Any:
    """Make a list of sizes small, and cut one with an entry for each layer."""
    size = size_of(name)
    if isinstance(size, int) and not _TOKEN.search(name):
        sizes = [min(entry, size) if type(entry) is int else entry for entry in entries]
        entries = sizes if sizes != list(entries) else entries
    return every_kind(entries, layers) if depth == len(entries) > layers else entries


def _number(name: str, value: int, *, layers: int, config: Mapping[str, Any], width: object) -> int:
    size = size_of(name)
    if size is None or _TOKEN.search(name):
        return value
    if size == LAYERS:
        return min(value, layers)
    queries = config.get("num_attention_heads", config.get("n_head", config.get("n_heads")))
    if size == _KEY_HEADS and "heads" in name and value == queries:
        return N_HEADS  # as many as query heads stay as many
    if name == "head_dim" and isinstance(width, int) and queries and value * queries != width:
        return 2 * D_HEAD  # heads that are together wider than the residual stream stay so
    return min(value, int(size))


def depth_of(config: Mapping[str, Any]) -> int:
    """Give the number of layers that a config states, 0 where it states none."""
    named = (value for name, value in config.items() if size_of(str(name)) == LAYERS)
    return next((value for value in named if isinstance(value, int)), 0)


def every_kind(entries: list[Any] | tuple[Any, ...], layers: int) -> list[Any]:
    """Cut a list of layers' entries to so many, each kind among them, in their order."""
    kinds: list[Any] = []
    for entry in entries:
        if entry not in kinds:
            kinds.append(entry)
    return (kinds * layers)[: max(layers, 1)]


def _with_few_tokens(config: dict[str, Any]) -> dict[str, Any]:
    """Move special tokens into the small vocabulary, each to a place of its own."""
    place = _ORDINARY
    for name, value in config.items():
        if name in _SPECIAL and value is not None:
            config[name] = _SPECIAL[name]
        elif _TOKEN.search(str(name)) and isinstance(value, int) and value >= _ORDINARY:
            config[name], place = min(place, VOCABULARY - 1), place + 1
    return config
