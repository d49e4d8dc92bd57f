"""What a folder of somebody else's may hold: looked at before any library reads it.

Nothing here runs, builds or follows what the folder says. Weights are safetensors alone: `*.bin`
and `*.pt` are pickles, which run code when they are read, and no option has them read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from harness.errors import CheckpointError
from harness.record.sealing import read_sealed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json")
"""What transformers takes before any pickle that lies beside it."""

_MIB: Final = 2**20
_READ: Final = {"config.json": 4, "tokenizer_config.json": 16, WEIGHTS[1]: 64}
"""MiB that a JSON file may have which is read here.

Source: the largest of well-known models: a config with 21 000 labels has 1.6 MB, an index of
90 000 tensors 9 MB, a tokenizer_config with 130 000 added tokens is none that we know of.
"""
_OTHER: Final = 256
"""MiB of any other text that a tokenizer reads; Gemma 3's tokenizer.json has 33 MB."""
_TEXTS: Final = frozenset({".json", ".txt", ".model", ".jinja"})
_NOT_OPENED: Final = "special_tokens_map_file"
"""A field in which old releases wrote a path of the author's machine, and that none reads."""
_PLAIN: Final = re.compile(r"[^/\\\x00-\x1f]{1,200}")
_LONGEST_NAME: Final = 255
"""Bytes of a file's name that file systems take (NAME_MAX of Linux' limits.h)."""


def inspect(folder: Path) -> None:
    """Refuse a folder that leads out of itself, is too large to read, or has only pickles.

    Raises:
        CheckpointError: says in a sentence what was found and what to do.
    """
    for path in sorted(folder.iterdir()):
        _check_place(path, folder)
        check_length(path)
    if (folder / "adapter_config.json").exists():
        message = (
            f"{folder}: adapter_config.json names another model to be loaded in its place; merge "
            "the adapter into its model and save that"
        )
        raise CheckpointError(message)
    _check_config(folder / "config.json")
    _check_tokenizer(folder / "tokenizer_config.json")
    _check_index(folder)
    _check_weights(folder)


_SAVE_SAFELY: Final = (
    "a pickle runs code when it is read; save the model with safe serialization, as "
    "model.safetensors"
)


def _check_place(path: Path, folder: Path) -> None:
    """Refuse a link that leads out of the folder; the hub's cache links to its own blobs."""
    home = folder.resolve()
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parent.parent / "blobs")
    real = path.resolve()
    if not any(real.is_relative_to(each) for each in homes):
        message = f"{path}: a link that leads out of the folder, to {real}; copy the file in"
        raise CheckpointError(message)
    if not (real.is_file() or real.is_dir()):
        message = f"{path}: neither a file nor a folder; remove it, or fetch the checkpoint anew"
        raise CheckpointError(message)


def check_length(path: Path) -> None:
    """Refuse a text that is longer than any of its kind.

    Raises:
        CheckpointError: it is.
    """
    length, limit = path.stat().st_size, _READ.get(path.name, _OTHER) * _MIB
    if path.suffix in _TEXTS and length > limit:
        message = f"{path}: {length} bytes, and at most {limit} are read; look at what it holds"
        raise CheckpointError(message)


def _check_config(file: Path) -> None:
    """Refuse a config that has weights read from elsewhere, or attention fetched."""
    config = _object_in(file)
    for name, value in _fields(config):
        if name == "transformers_weights" or name.endswith("attn_implementation"):
            _check_name(file, name, value)
    named = config.get("transformers_weights") or WEIGHTS[0]
    if not named.endswith((".safetensors", WEIGHTS[1])):
        message = f"{file}: has its weights read from {named!r}; {_SAVE_SAFELY}"
        raise CheckpointError(message)


def _check_tokenizer(file: Path) -> None:
    """Refuse a tokenizer that is read from elsewhere: older releases open what stands here."""
    if not file.is_file():
        return
    for name, value in _object_in(file).items():
        if name.endswith(("_file", "_files")) and name != _NOT_OPENED:
            for each in value if isinstance(value, list) else [value]:
                _check_name(file, name, each)


def _check_weights(folder: Path) -> None:
    if any((folder / name).is_file() for name in WEIGHTS):
        return
    pickles = sorted(path.name for end in ("bin", "pt", "pth") for path in folder.glob(f"*.{end}"))
    if pickles:
        message = f"{folder}: its weights are in {', '.join(pickles)}; {_SAVE_SAFELY}"
        raise CheckpointError(message)
    if not any(folder.glob("*.safetensors")):
        message = f"{folder}: no *.safetensors; save the model with safe serialization"
        raise CheckpointError(message)


def _check_index(folder: Path) -> None:
    """Refuse an index that is none, or that names a shard which is not in the folder itself."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            shards = set(_object_in(index)["weight_map"].values())
        except (KeyError, TypeError, AttributeError) as error:
            message = f"{index}: not an index of shards ({error!r}); delete it and make it anew"
            raise CheckpointError(message) from error
        for shard in shards:
            _check_name(index, "weight_map", shard)
            if not (isinstance(shard, str) and shard.endswith(".safetensors")):
                message = f"{index}: names {shard!r:.200} for weights; {_SAVE_SAFELY}"
                raise CheckpointError(message)
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            lost = ", ".join(missing)
            message = f"{folder}: the index names {lost}, which is not there; fetch it anew"
            raise CheckpointError(message)


def _check_name(file: Path, field: str, value: object) -> None:
    """Refuse what is given for the name of a file beside it, and is a way to elsewhere."""
    if value is None or (
        isinstance(value, str)
        and _PLAIN.fullmatch(value)
        and value not in {".", ".."}
        and len(value.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME
    ):
        return
    message = (
        f"{file}: {field} names {value!r:.200}, and only a file's plain name is taken, so that "
        "nothing outside the folder is read; delete the name if the file is yours"
    )
    raise CheckpointError(message)


def _object_in(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: it is none, or nested deeper than Python reads.
    """
    try:
        return read_sealed(file)  # it has no seal
    except (OSError, ValueError) as error:
        kind = "an index of shards" if file.name.endswith("index.json") else "a JSON object"
        message = f"{file}: not {kind} ({error}); delete it and make it anew"
        raise CheckpointError(message) from error


def _fields(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give every field of a config and of the configs inside it."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _fields(value)
        else:
            yield name, value
