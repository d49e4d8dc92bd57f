"""Tries small configs of a kind until one builds and runs."""

from __future__ import annotations

import copy
import inspect
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from harness.errors import Unavailable
from harness.models.shrinking.hints import HINTS
from harness.models.shrinking.running import classes_in, quiet, runs
from harness.models.shrinking.sizes import depth_of, every_kind, shrunk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECONDS: Final = 60.0
"""When no further attempt is begun."""
_DEPTHS: Final = (2, 4, 6, 8)
_PER_LAYER: Final = re.compile(r"layer_types$")
"""Names the kind of each layer, of its attention or its MLP."""
_CAUSAL: Final = "AutoModelForCausalLM"
_START: Final = 1
"""What a decoder reads first where the class leaves it to the files on the hub."""
_BOOKKEEPING: Final = frozenset(
    {
        "transformers_version",
        "_name_or_path",
        "architectures",
        "dtype",
        "torch_dtype",
        "auto_map",  # names files that are not in the twin's folder
        "quantization_config",  # the twin's numbers are written as they are
    }
)

# What is tried where the small config as it comes neither builds nor runs.
ALTERNATIVES: Final[Mapping[str, Mapping[str, int]]] = {
    "as it comes": {},
    "positions that begin behind the padding": {"max_position_embeddings": 64},
    "a key and value head for each query head": {"num_key_value_heads": 4},
    "heads that fill d_model": {"head_dim": 8},
    "both": {"num_key_value_heads": 4, "head_dim": 8},
    "an inner width of twice d_model": {"intermediate_size": 64},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiny:
    """A small config that was built and run: its config.json, and how it came to be.

    `lost` names the classes of modules that the whole model has and the small one has not.
    """

    config: Mapping[str, Any]
    parameters: int
    attempt: str
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """A config to shrink, what it is called, and whether its type's hint is followed."""

    said: str
    config: dict[str, Any]
    helped: bool


def tiny_of_type(model_type: str, auto_class: str) -> Tiny:
    """Give a small config of a model type, from its class's own defaults.

    Args:
        model_type: As config.json spells it, of the installed transformers.
        auto_class: By which transformers builds the model, `AutoModelForCausalLM` or the like.

    Raises:
        Unavailable: no attempt builds and runs; says what the first one said.
    """
    kind = CONFIG_MAPPING[model_type]
    try:
        with quiet():
            starts = [_decoding(each, kind, auto_class) for each in _starts(kind)]
    except Exception as error:  # each class has errors of its own
        said = " ".join(str(error).split())
        message = f"{model_type}: the class's own defaults do not build a config ({said})"
        raise Unavailable(message) from error
    return _first_that_runs(kind, starts, auto_class)


def tiny_of_config(config: Any, auto_class: str) -> Tiny:
    """Give a small twin of a config: all that is no size stays as it is.

    Its type's hint is followed only where it does not build without, or loses kinds of layers.

    Raises:
        Unavailable: no attempt builds and runs; says what the first one said.
    """
    whole = without_bookkeeping(config.to_dict())
    starts = [
        _Start(said="as given", config=whole, helped=False),
        _Start(said="as given, with the type's hint", config=whole, helped=True),
    ]
    if type(config).model_type not in HINTS:
        del starts[1]
    return _first_that_runs(type(config), starts, auto_class)


def _first_that_runs(kind: Any, starts: list[_Start], auto_class: str) -> Tiny:
    """Give the first small config that runs and has every kind of module that the whole one has.

    Where none has them all, the first that lacks the fewest, of those that run at the same try.
    """
    deadline = time.monotonic() + SECONDS
    wanted = _modules_of(kind, starts[-1].config, auto_class)
    first = ""
    for alternative in ALTERNATIVES:
        lossy: list[Tiny] = []
        for said, config in _attempts(kind, starts, alternative):
            if time.monotonic() > deadline:
                break
            try:
                tiny = _tried(kind, config, auto_class, said=said, wanted=wanted)
            except Exception as error:  # noqa: BLE001 - each class has errors of its own
                first = first or f"{type(error).__name__}: {' '.join(str(error).split())}"
                continue
            if not tiny.lost:
                return tiny
            lossy.append(tiny)
        if lossy:
            return min(lossy, key=lambda each: len(each.lost))
    message = f"{kind.model_type}: no small config of it builds and runs ({first})"
    raise Unavailable(message)


def _modules_of(kind: Any, config: dict[str, Any], auto_class: str) -> frozenset[str]:
    """Name the classes of a whole model's modules; none where the whole config builds no model."""
    try:
        with quiet(), torch.device("meta"):
            whole = kind.from_dict(copy.deepcopy(config))
            return classes_in(getattr(transformers, auto_class).from_config(whole))
    except Exception:  # noqa: BLE001 - each class has errors of its own
        return frozenset()


def _tried(
    kind: Any, config: dict[str, Any], auto_class: str, *, said: str, wanted: frozenset[str]
) -> Tiny:
    with quiet():
        loaded = kind.from_dict(copy.deepcopy(config))
    parameters, modules = runs(loaded, auto_class)
    written = without_bookkeeping(loaded.to_dict())
    if loaded.is_encoder_decoder and written.get("decoder_start_token_id") is None:
        written["decoder_start_token_id"] = _START
    return Tiny(
        config={**written, "architectures": [loaded.architectures[0]]},
        parameters=parameters,
        attempt=said,
        lost=tuple(sorted(wanted - modules)),
    )


def _attempts(
    kind: Any, starts: list[_Start], alternative: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    parameters = inspect.signature(kind.__init__).parameters
    changes = {name: to for name, to in ALTERNATIVES[alternative].items() if name in parameters}
    if ALTERNATIVES[alternative] and not changes:
        return
    for start in starts:
        kinds = [value for name, value in start.config.items() if _PER_LAYER.search(name) and value]
        fewest = max(_DEPTHS[0], *(len(set(map(str, each))) for each in kinds), 0)
        for layers in dict.fromkeys(max(fewest, depth) for depth in _DEPTHS):
            config = shrunk(start.config, layers=layers)
            for name, value in config.items():
                if _PER_LAYER.search(name) and value:
                    config[name] = every_kind(value, layers)
            config.update(changes)
            if start.helped:
                _help(config, kind.model_type)
            yield f"{start.said}, {depth_of(config) or layers} layers, {alternative}", config


def _help(config: dict[str, Any], model_type: str) -> None:
    """Set what a type's hint says, and those of the types nested in it."""
    for inner in config.values():
        if isinstance(inner, dict):
            _help(inner, str(inner.get("model_type", "")))
    if model_type in HINTS:
        _update(config, HINTS[model_type].fields)


def _update(config: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Set fields, those of nested configs too."""
    for name, value in fields.items():
        inner = config.get(name)
        if isinstance(value, dict) and isinstance(inner, dict):
            _update(inner, value)
        else:
            config[name] = value


def _starts(kind: Any) -> list[_Start]:
    """Give what a class's config may be shrunk from: what it states, and what it derives of that.

    What a class derives from its sizes (inner widths, layers' kinds) it derives anew from small
    ones; where it cannot, the derived numbers are made small themselves.
    """
    return [
        _Start(said="stated", config=stated(kind), helped=True),
        _Start(said="whole", config=without_bookkeeping(kind().to_dict()), helped=True),
    ]


def _decoding(start: _Start, kind: Any, auto_class: str) -> _Start:
    """Tell a class that may be either that it decodes, where a causal model is asked for.

    BERT and its like see the future otherwise, whatever the model's class is called; so does XLM,
    by a word of its own.
    """
    known = inspect.signature(kind.__init__).parameters
    words = [word for word in ("is_decoder", "causal") if word in known]
    if not words or auto_class != _CAUSAL:
        return start
    return replace(start, config={**start.config, **dict.fromkeys(words, True)})


def stated(kind: Any) -> dict[str, Any]:
    """Give the fields that a config class has a default for, of nested configs too."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in _BOOKKEEPING or parameter.default in {None, inspect.Parameter.empty}:
            continue
        if not callable(parameter.default):
            found[name] = parameter.default
    whole = kind()
    for name, inner in kind.sub_configs.items():
        given = getattr(whole, name, None)
        if given is not None:
            found[name] = stated(type(given) if hasattr(given, "sub_configs") else inner)
            found[name]["model_type"] = given.model_type
    for name in inspect.signature(kind.__init__).parameters:
        if _PER_LAYER.search(name) and (kinds := getattr(whole, name, None)):
            found[name] = list(kinds)
    return found


def without_bookkeeping(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a config without what speaks of files and releases, nested configs too."""
    return {
        name: without_bookkeeping(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in _BOOKKEEPING
    }
