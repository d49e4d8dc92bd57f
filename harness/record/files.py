"""Writes the files of a run that are no tables; each appears whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from harness.record.sealing import sealed_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def write_json(file: Path, content: object) -> None:
    """Write a JSON file; it appears whole or not at all."""
    write_text(file, json.dumps(content, indent=2, sort_keys=True))


def write_sealed(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with its seal, for `read_sealed`; it appears whole or not at all."""
    write_text(file, sealed_json(content))


def write_text(file: Path, text: str) -> None:
    """Write a text file, and its folder; it appears whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with becoming(file) as scratch:
        scratch.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def becoming(file: Path) -> Iterator[Path]:
    """Give a file to write that takes another's place once it is whole, and goes if it is not.

    Its name begins with a dot: readers of parquet folders pass over it.
    """
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield scratch
        scratch.replace(file)
    except BaseException:  # on a full disk what is half-written is in the way
        scratch.unlink(missing_ok=True)
        raise


def point_latest(run: Path) -> None:
    """Make `latest`, beside the run, point to it."""
    latest = run.parent / "latest"
    scratch = run.parent / f".latest.{os.getpid()}"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(run.name, target_is_directory=True)
    scratch.replace(latest)
