"""A tiny twin of a user's model: the same config with small sizes, and weights drawn by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from harness.errors import CheckpointError, SelectionError, Unavailable, UsageError
from harness.models.architectures import KINDS, auto_class_of, automatic, kinds_of
from harness.models.checkpoints import hub, shrunk
from harness.models.checkpoints.folder import open_folder, scratch_beside
from harness.models.checkpoints.inspecting import check_length
from harness.models.ports.loading import load_model
from harness.models.shrinking import (
    Tiny,
    quiet,
    run_once,
    tiny_of_config,
    tiny_of_type,
    without_bookkeeping,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CONFIG: Final = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """What a twin is made of.

    `said` names it in a sentence. `config` is None where the class's own defaults are meant, and
    `stated` is config.json as it was written: it may state fields that the class does not keep.
    """

    said: str
    model_type: str
    config: Any
    stated: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A field that the twin has otherwise; a nested one has its path, with dots."""

    field: str
    was: object
    now: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A twin in its folder: how it came to be, and in which fields it is not its original."""

    tiny: Tiny
    changes: tuple[Change, ...]


ABSENT: Final = "absent"
"""Stands for a field that one side does not have."""


def original_of_type(model_type: str) -> Original:
    """Take the defaults of a model type's config class."""
    said = f"the model type {model_type} of transformers {transformers.__version__}"
    return Original(said=said, model_type=model_type, config=None, stated={})


def original_of_folder(folder: Path) -> Original:
    """Take the config.json of a folder; nothing else in it is read.

    Raises:
        CheckpointError: config.json cannot be read.
        Unavailable: the installed transformers has no class for it.
    """
    return _original_of_file(folder / _CONFIG, f"{folder / _CONFIG}")


def original_of_hub(name: str) -> Original:
    """Fetch the config.json of `<id>` or `<id>@<commit>`; nothing else is fetched.

    Raises:
        UsageError: the id is none, or what follows it is no full commit hash.
        CheckpointError: config.json cannot be read.
        Unavailable: the hub does not give it, or the installed transformers has no class for it.
    """
    file, commit = hub.fetch_config(name)
    return _original_of_file(file, f"{_CONFIG} of {name.partition('@')[0]}@{commit}")


def _original_of_file(file: Path, said: str) -> Original:
    try:
        check_length(file)
        stated = json.loads(file.read_text())
        model_type = str(stated.get("model_type") or "")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{said}: not a config ({error}); fetch it anew") from error
    if model_type not in CONFIG_MAPPING:
        raise Unavailable(_no_class(said, model_type, stated))
    try:
        with quiet():
            config = CONFIG_MAPPING[model_type].from_dict(dict(stated))
    except Exception as error:  # each class has errors of its own
        release = transformers.__version__
        message = f"{said}: transformers {release} cannot read it ({error}); try another release"
        raise CheckpointError(message) from error
    return Original(said=said, model_type=model_type, config=config, stated=stated)


def _no_class(said: str, model_type: str, stated: Mapping[str, Any]) -> str:
    release = transformers.__version__
    if stated.get("auto_map"):
        return (
            f"{said}: its model is Python code that comes with the checkpoint (auto_map), which "
            f"harness shrink does not run, and transformers {release} has no class for "
            f"{model_type!r}; next: if you trust this code, import it in a module that registers "
            "its classes, and name that with --register"
        )
    return (
        f"{said}: transformers {release} has no model type {model_type!r}; "
        "next: name the module that registers it with --register, or try another release"
    )


def auto_class_for(original: Original, kind: str | None) -> str:
    """Name the class that builds the twin: of the kind asked for, or of what config.json states.

    Where neither says it, it is the first kind that the type has.

    Raises:
        UsageError: the type has no text model, or not of this kind, or config.json states one that
            is none.
    """
    kinds = kinds_of(CONFIG_MAPPING[original.model_type])
    there = ", ".join(f"{each} ({name})" for each, name in kinds.items())
    if not kinds:
        release = transformers.__version__
        message = (
            f"{original.said}: transformers {release} has no text model of {original.model_type}; "
            f"next: register its class with {' or '.join(auto for auto, _ in KINDS.values())}, "
            "and name the module that does with --register"
        )
        raise UsageError(message)
    if kind is not None:
        if kind not in kinds:
            message = f"{original.model_type} is not there as {kind}; allowed: {there}"
            raise SelectionError(message)
        return KINDS[kind][0]
    stated = original.stated.get("architectures")
    if not stated:
        return KINDS[next(iter(kinds))][0]
    try:
        return auto_class_of(original.stated)
    except CheckpointError as error:
        message = (
            f"{original.said}: states an architecture that is no text model\n"
            f"  found:   {stated[0]}\n"
            f"  allowed: {there}\n"
            f"  next:    say which is meant, such as --as {next(iter(kinds))}"
        )
        raise UsageError(message) from error


def check_out(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        UsageError: `out` is a file, or a folder with something in it.
    """
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        message = f"{out} is there already, and not empty; name a folder that is not"
        raise UsageError(message)


def write_twin(original: Original, out: Path, auto_class: str) -> Twin:
    """Make a twin and put it into a folder, which appears only when it is whole and was loaded.

    Raises:
        Unavailable: no small config of it builds and runs.
        CheckpointError: the checkpoint does not load whole, or gives no finite logits.
        UsageError: `out` holds something.
    """
    check_out(out)
    if original.config is None:
        tiny = tiny_of_type(original.model_type, auto_class)
        with quiet():
            before = CONFIG_MAPPING[original.model_type]().to_dict()
    else:
        before = original.config.to_dict()  # the small one is made of a copy
        tiny = tiny_of_config(original.config, auto_class)
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch_beside(out) as scratch:
        made = scratch / out.name
        made.mkdir()
        shrunk.write(made, tiny.config)
        _check(made, original.model_type, auto_class)
        made.rename(out)
    return Twin(tiny=tiny, changes=tuple(_changes(without_bookkeeping(before), tiny.config)))


def _check(folder: Path, model_type: str, auto_class: str) -> None:
    """Load a twin and run it.

    Raises:
        CheckpointError: tensors are missing or extra, or what it gives are no finite logits.
    """
    record = automatic(model_type, auto_class)
    with quiet():
        model = load_model(
            record, open_folder(folder), dtype="float32", device="cpu", attention="eager"
        )
        try:
            run_once(model)
        except ValueError as error:
            message = f"the twin of {model_type} does not run with the weights drawn ({error})"
            raise CheckpointError(message) from error


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    old, new = dict(_leaves(before)), dict(_leaves(after))
    new.pop("architectures", None)
    for field in dict.fromkeys([*old, *new]):
        was, now = old.get(field, ABSENT), new.get(field, ABSENT)
        if was != now:
            yield Change(field=field, was=was, now=now)


def _leaves(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """Give each entry that is no mapping, under its path; tuples as the lists of config.json."""
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", list(value) if isinstance(value, tuple) else value
