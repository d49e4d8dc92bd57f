"""Other values that a config field may have: what an experiment changes it to."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.models.rebuilding import Path

Pool = dict[str, list[Any]]
"""By a field's name, the values that families' records give it."""

_ORIGINAL_LENGTH: Final = 9
ROPE_TYPES: Final[tuple[dict[str, Any], ...]] = (
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 4.0},
    {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": _ORIGINAL_LENGTH,
    },
    {"rope_type": "default"},
)
"""A rotary type and what it needs beside it: without, it raises."""

_OTHERS: Final[Mapping[str, tuple[Any, ...]]] = {
    # Names of activations: transformers.activations.ACT2FN.
    "act": ("gelu", "relu", "silu", "gelu_new"),
    # Relative positions of BERT in transformers 4, and MPT's and StarCoder2's published values.
    "type": ("relative_key", "rms_norm", "gated", "multiquery_attention"),
    "feed_forward_proj": ("gated-gelu", "gelu"),
    "impl": ("eager", "flash"),
    # A name of no use: what is never read does not mind it.
    "": ("another",),
}
_OPPOSITES: Final = {
    "full_attention": "sliding_attention",
    "sliding_attention": "full_attention",
    "global": "local",
    "local": "global",
}
_FOR_NONE: Final[tuple[Any, ...]] = (1, 0.5, True, "relu")


def others(path: Path, value: object, pool: Pool) -> Iterator[Any]:
    """Give other values for a field, by the type of the one it has.

    A dictionary among them is put beside the field instead of in its place: a rotary type with
    the numbers that it needs.
    """
    name = path[-1]
    match value:
        case bool():
            yield not value
        case int():
            yield from dict.fromkeys((value * 2, value + 1, value // 2, value - 1))
        case float():
            yield from dict.fromkeys((value * 2, value * 0.5, value * 0.1, value + 1.0))
        case list():
            yield from _other_lists(value)
            yield from _pooled(name, value, pool)
        case str() if name == "rope_type":
            yield from (kind for kind in ROPE_TYPES if kind["rope_type"] != value)
        case str():
            endings = (names for part, names in _OTHERS.items() if part in name)
            known = dict.fromkeys(name for found in endings for name in found)
            yield from (other for other in known if other != value)
            yield from _pooled(name, value, pool)
        case None:
            yield from _pooled(name, value, pool)
            yield from _FOR_NONE


def _other_lists(value: list[Any]) -> Iterator[Any]:
    if not value:
        yield [0]
    elif all(isinstance(item, (int, float)) for item in value):
        yield [item * 2 for item in value]
    else:
        flipped = [_flipped(item) for item in value]
        if flipped != value:
            yield flipped
            yield [flipped[0], *value[1:]]


def _flipped(value: object) -> object:
    if isinstance(value, list):
        return [_flipped(item) for item in value]
    return _OPPOSITES.get(value, value) if isinstance(value, str) else value


def _pooled(name: str, value: object, pool: Pool) -> Iterator[Any]:
    yield from (other for other in pool.get(name, ()) if other != value and other is not None)


def pool_of(configs: Sequence[Mapping[Path, Any]]) -> Pool:
    """Gather the values that records give to fields, by the fields' names."""
    pool: Pool = {}
    for config in configs:
        for path, value in config.items():
            values = pool.setdefault(path[-1], [])
            if value not in values:
                values.append(value)
    return pool


def changed(config: Mapping[str, Any], path: Path, value: object) -> dict[str, Any]:
    """Give a config in which one field has another value."""
    copied = copy.deepcopy(dict(config))
    parent = _parent(copied, path)
    if isinstance(value, dict):
        parent.update(value)
    else:
        parent[path[-1]] = copy.deepcopy(value)
    return copied


def without(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Give a config that leaves a field that it states to its default."""
    copied = copy.deepcopy(dict(config))
    del _parent(copied, path)[path[-1]]
    return copied


def _parent(config: dict[str, Any], path: Path) -> dict[str, Any]:
    parent = config
    for name in path[:-1]:
        inner = parent.setdefault(name, {})
        parent = inner if isinstance(inner, dict) else {}
    return parent
