"""A checkpoint folder: config, safetensors, tokenizer; where they are cached, and their checks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock
from safetensors import SafetensorError, safe_open

from harness.cache import folder_of
from harness.errors import CheckpointError
from harness.models.checkpoints.inspecting import inspect
from harness.record.sealing import read_sealed, sealed_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SEAL: Final = "sha256.json"
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A folder that holds a model, and the digest of what is in it.

    `code` are the Python files that come with it and may be run, with their sha256; nearly always
    none.
    """

    path: Path
    digest: str
    code: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """Read config.json.

        Raises:
            CheckpointError: it cannot be read, or is no table.
        """
        file = self.path / "config.json"
        try:
            return read_sealed(file)  # it has no seal of its own
        except (OSError, ValueError) as error:
            message = f"{file}: not a config ({error}); delete {self.path} and make it anew"
            raise CheckpointError(message) from error


def cache_folder() -> Path:
    """Give the folder in which checkpoints are kept: $HARNESS_CACHE or the user's cache."""
    return folder_of("checkpoints")


def sha256_of(path: Path) -> str:
    """Give the hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def cached(name: str, make: Callable[[Path], None]) -> Checkpoint:
    """Give the cached folder of that name, calling `make(folder)` to fill it the first time.

    The folder appears under its name only when it is whole and sealed with the digests of its
    files; two makers at once are kept apart by a lock.

    Raises:
        CheckpointError: the cached folder does not match its seal.
    """
    final = cache_folder() / name
    with FileLock(final.with_name(f".{name}.lock")):
        if not final.exists():
            with scratch_beside(final) as scratch:
                make(scratch)
                _seal(scratch)
                scratch.rename(final)
        found = _unseal(final)
        with contextlib.suppress(PermissionError):  # a cache that others may read alone
            os.utime(final / _SEAL)  # harness cache prune asks when it was last used
        return found


def open_folder(path: str | Path, *, with_code: bool = False) -> Checkpoint:
    """Give a checkpoint in a folder of the user's; with its Python files, if they may be run.

    Raises:
        CheckpointError: the folder lacks config.json or safetensors, or one cannot be read, or
            holds what leads elsewhere (harness/models/checkpoints/inspecting.py).
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        message = f"{folder}: no config.json; give a folder in the hub's format"
        raise CheckpointError(message)
    inspect(folder)
    weights = sorted(folder.glob("*.safetensors"))
    for file in weights:
        check_safetensors(file)
    digests = {file.name: sha256_of(file) for file in (folder / "config.json", *weights)}
    code = {file.name: sha256_of(file) for file in sorted(folder.glob("*.py"))}
    return Checkpoint(path=folder, digest=_digest(digests), code=code if with_code else {})


def _digest(digests: Mapping[str, str]) -> str:
    """Give one digest for config and weights; how a release writes a tokenizer is not in it."""
    kept = {
        name: digest
        for name, digest in digests.items()
        if name == "config.json" or name.endswith(".safetensors")
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def check_safetensors(file: Path) -> None:
    """Read the header of a safetensors file.

    Raises:
        CheckpointError: the file is truncated or is not safetensors.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        message = f"{file}: not a whole safetensors file ({error}); delete it and make it anew"
        raise CheckpointError(message) from error


@contextlib.contextmanager
def scratch_beside(final: Path) -> Iterator[Path]:
    """Give an empty folder beside another one; what is left in it at the end goes with it."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _seal(folder: Path) -> None:
    digests = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
    (folder / _SEAL).write_text(sealed_json(digests), encoding="utf-8")


def _unseal(folder: Path) -> Checkpoint:
    try:
        digests: dict[str, str] = read_sealed(folder / _SEAL)
    except (OSError, ValueError) as error:
        message = (
            f"{folder}: the seal {_SEAL} cannot be read ({error})\n"
            f"  next:    delete {folder} and run again; it will be made anew"
        )
        raise CheckpointError(message) from error
    for name, expected in digests.items():
        file = folder / name
        found = sha256_of(file) if file.is_file() else "no such file"
        if found != expected:
            message = (
                f"{file}: corrupt checkpoint\n"
                f"  found:   sha256 {found}\n  allowed: sha256 {expected} (from {_SEAL})\n"
                f"  next:    delete {folder} and run again; it will be made anew"
            )
            raise CheckpointError(message)
    return Checkpoint(path=folder, digest=_digest(digests))
