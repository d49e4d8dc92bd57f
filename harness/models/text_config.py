"""The part of a config.json that speaks of text: of a composite one, it is nested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SIZES: Final = ("vocab_size", "n_words", "src_vocab_size")
"""By which names config.json states the number of tokens, XLM's and FSMT's own ones too."""


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields that speak of text, and beside them what stands around them.

    A config in which nothing states a number of tokens is given as it is.
    """
    return _nested(config) or dict(config)


def vocabulary_size(config: Mapping[str, Any]) -> int:
    """Give the number of tokens of a config, of the text part of a composite one; 0 for none."""
    found = text_config(config)
    return next((int(found[name]) for name in _SIZES if isinstance(found.get(name), int)), 0)


def has_experts(config: Mapping[str, Any]) -> bool:
    """Say whether a config has experts, by whatever name, or a part of it does."""
    return any(
        has_experts(value) if isinstance(value, dict) else "expert" in str(name) and bool(value)
        for name, value in config.items()
    )


def text_part(config: Any) -> Any:
    """Give the part of a loaded config that speaks of text and has layers; else the config itself.

    Of an encoder-decoder whose halves have configs of their own it is the first that has both.
    """
    parts = list(_parts(config))
    states = [part for part in parts if any(_states(part, name) for name in _SIZES)]
    whole = [part for part in states if _states(part, "hidden_size")]
    return next(iter((*whole, *states)), config)


def _states(config: Any, name: str) -> bool:
    return isinstance(getattr(config, name, None), int)


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for name in getattr(config, "sub_configs", ()):
        part = getattr(config, name, None)
        if hasattr(part, "sub_configs"):
            yield from _parts(part)


def _nested(config: Mapping[str, Any]) -> dict[str, Any] | None:
    if any(isinstance(config.get(name), int) for name in _SIZES):
        return dict(config)
    inner = (_nested(part) for part in config.values() if isinstance(part, dict))
    found = next((part for part in inner if part is not None), None)
    return None if found is None else {**config, **found}
