"""Which fields of a config can be flipped, and to what: booleans, words and layers' kinds.

Data and sums only: nothing is built here. A field's other values come from its type, from what
its class says of it (`Literal`), or from its name; numbers are no flips.
"""

from __future__ import annotations

import copy
import inspect
import re
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from transformers.activations import ACT2FN
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from harness.models.shrinking.running import quiet
from harness.models.shrinking.sizes import depth_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LEFT_ALONE: Final = re.compile(
    # what is given beside the logits, and how
    r"^output_|^return_|^use_cache$|^torchscript$|problem_type|^id2label$|^label2id$"
    # training, and how the same numbers are computed
    r"|dropout|gradient_checkpointing|(^|_)loss($|_)|dtype|kernel|flash|^_|chunk_size"
    # what makes another kind of model of it: its class needs it, or the future leaks in
    r"|^is_(encoder_)?decoder$|^is_encoder$|cross_attention|tie_encoder_decoder"
    r"|causal|bidirectional|^model_type$|^architectures$"
    # what tokens never meet
    r"|vision|image|video|audio|speech|depth_decoder"
)
"""Names of fields that are not asked."""
_ACTIVATION: Final = re.compile(r"act(ivation)?($|_)")
_ACTIVATIONS: Final = ("gelu", "gelu_new", "relu")
"""What an activation becomes, of those that it is not; the first two are told apart by little."""
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    # Source: T5Config, which splits the word in two.
    "feed_forward_proj": ("gated-gelu", "relu"),
}
_TIED: Final = "tie_word_embeddings"
"""Every config has it, whether its class declares it or not."""
_ROPE: Final = re.compile(r"^rope_(parameters|scaling)$")
_ROPE_TYPES: Final = ({"rope_type": "linear", "factor": 4.0}, {"rope_type": "default"})
"""Rotary types that need no further number of the config's. Source: ROPE_INIT_FUNCTIONS."""

Path = tuple[str, ...]
"""Where a field stands in a config: its name, behind those of the configs around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A field that can be flipped: what it is, and what it may become instead, in order.

    A dictionary among `others` is put beside the field instead of in its place.
    """

    path: Path
    before: Any
    others: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Name the field, e.g. `text_config.attention_bias`."""
        return ".".join(self.path)


def candidates_of(config: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """Give every field of a config.json that can be flipped, nested ones too, in its order."""
    return tuple(_candidates(config, CONFIG_MAPPING[config["model_type"]], ()))


def without_derived(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a config.json without what its class derives from the rest of it.

    T5's `dense_act_fn` is derived from `feed_forward_proj`, hides it, and makes no sense beside
    another one.
    """
    kind = CONFIG_MAPPING[config["model_type"]]
    known = {*inspect.signature(kind.__init__).parameters, _TIED}
    known |= {name for name in config if _LEFT_ALONE.search(name)}
    declared = {name: value for name, value in config.items() if name in known}
    try:
        with quiet():
            again = kind.from_dict(copy.deepcopy(declared)).to_dict()
    except Exception:  # noqa: BLE001 - each class has errors of its own; it derives nothing, then
        return dict(config)
    return {
        name: value
        for name, value in config.items()
        if name in known or name not in again or again[name] != value
    }


def flipped(config: Mapping[str, Any], path: Path, value: object) -> dict[str, Any]:
    """Give a config in which one field has another value."""
    changed = copy.deepcopy(dict(config))
    parent = changed
    for name in path[:-1]:
        parent = parent[name]
    if isinstance(value, dict):
        parent.update(value)
    else:
        parent[path[-1]] = copy.deepcopy(value)
    return changed


def _candidates(config: Mapping[str, Any], kind: Any, around: Path) -> Iterator[Candidate]:
    hints = _hints(kind)
    for name, value in config.items():
        if _LEFT_ALONE.search(name):
            continue
        if _ROPE.search(name) and isinstance(value, dict):
            yield from _rotary(value, (*around, name))
        elif isinstance(value, dict):
            yield from _candidates(value, _inner(kind, name, value), (*around, name))
        elif others := tuple(_others(name, value, hints.get(name), depth_of(config))):
            yield Candidate(path=(*around, name), before=value, others=others)


def _others(name: str, value: object, hint: object, depth: int) -> Iterator[Any]:
    """Give a field's other values, by its own, by its class's annotation and by its name."""
    match value:
        case bool():
            yield not value
        case None if bool in typing.get_args(hint):
            yield True
        case str():
            words = (*_literals(hint), *_WORDS.get(name, ()))
            if _ACTIVATION.search(name) and value in ACT2FN:
                words = (*words, *_ACTIVATIONS)
            yield from (word for word in dict.fromkeys(words) if word != value)
        case list() | tuple() if _by_layer(value, depth):
            turned = (_turned(value, step=-1), _turned(value, step=1))
            yield from (each for each in turned if each != list(value))


def _rotary(rope: Mapping[str, Any], path: Path) -> Iterator[Candidate]:
    """Give the rotary type, or those of each kind of layer, and flags that stand beside it."""
    for name, value in rope.items():
        if isinstance(value, dict):
            yield from _rotary(value, (*path, name))
        elif name == "rope_type":
            others = tuple(each for each in _ROPE_TYPES if each["rope_type"] != value)
            yield Candidate(path=(*path, name), before=value, others=others)
        elif isinstance(value, bool):
            yield Candidate(path=(*path, name), before=value, others=(not value,))


def _by_layer(value: list[Any] | tuple[Any, ...], depth: int) -> bool:
    """Say whether a list names kinds of layers, or says yes or no of each."""
    if inner := [entry for entry in value if isinstance(entry, list)]:
        return any(_by_layer(entry, depth) for entry in inner)
    words = all(isinstance(entry, str) for entry in value)
    flags = all(isinstance(entry, int) and entry in {0, 1} for entry in value)
    return words or (flags and len(value) == depth)


def _turned(value: list[Any] | tuple[Any, ...], *, step: int) -> list[Any]:
    """Turn a list around (-1), or on by one place (1); lists within it instead, if there are."""
    if any(isinstance(entry, list) for entry in value):
        return [_turned(e, step=step) if isinstance(e, list) else e for e in value]
    return list(value[::-1]) if step < 0 else [*value[1:], *value[:1]]


def _hints(kind: Any) -> dict[str, Any]:
    """Give the annotations of a config class; they name torch, which its module may not import.

    Where they name what nobody has imported, no word and no unset flag is known.
    """
    try:
        return typing.get_type_hints(kind, localns={"torch": torch}) if kind is not None else {}
    except NameError:
        return {}


def _literals(hint: object) -> tuple[Any, ...]:
    """Give the words that an annotation allows, in a union too."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    return tuple(word for part in typing.get_args(hint) for word in _literals(part))


def _inner(kind: Any, name: str, value: Mapping[str, Any]) -> Any:
    """Give the class of a nested config; None for a dictionary that is none."""
    if value.get("model_type") in CONFIG_MAPPING:
        return CONFIG_MAPPING[value["model_type"]]
    return getattr(kind, "sub_configs", {}).get(name)
