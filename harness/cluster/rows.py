"""A run's parts at a URL: a shared folder, s3, gs, whatever fsspec knows.

The layout is that of a run's folder, and so is the promise: a cell's part in `cells/` comes last,
and is there exactly when all its other parts are. Parts are named by their cell, so that a cell
that is measured twice is one cell.
"""

from __future__ import annotations

import json
import os
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import fsspec
from fsspec.implementations.local import LocalFileSystem

from harness.errors import UsageError
from harness.record import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

OUTCOMES: Final = ".outcomes"
"""What pytest said of each cell's test. Readers of parquet folders pass over such a name."""

_LAST: Final = "cells"
_BEFORE: Final = tuple(kind for kind in get_args(Kind) if kind != _LAST)
_SHARED: Final = (".reference", ".oracle")
"""How the names of fingerprint parts end that all cells of a case share.

Source: `harness/measure/agreement.py`, which names them.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The parts of one run at a URL."""

    url: str

    def finished(self) -> frozenset[str]:
        """Name the cells whose rows are all there."""
        return self._names(_LAST)

    def publish(self, run: Path, cells: Collection[str]) -> None:
        """Copy the parts of finished cells from a run's folder, each whole, their own row last.

        What the cells of a case share stays as the first wrote it, as in a run that is resumed.
        """
        if self._is(run):
            return
        files, root = self._found()
        for kind in (OUTCOMES, *_BEFORE, _LAST):
            files.makedirs(posixpath.join(root, kind), exist_ok=True)
        for kind in (OUTCOMES, *_BEFORE, _LAST):
            for name in sorted(cells):
                self._put(run / kind / _file(kind, name))
            if kind == "fingerprints":
                there = self._names(kind)
                for part in sorted((run / kind).glob("[!.]*.parquet")):
                    name = part.name.removesuffix(".parquet")
                    if name.endswith(_SHARED) and name not in there:
                        self._put(part)

    def fetch(self, run: Path, cells: Collection[str]) -> None:
        """Copy the parts of finished cells into a run's folder, their own row last."""
        if self._is(run):
            return
        wanted = self.finished().intersection(cells)
        for kind in (*_BEFORE, _LAST):
            for name in sorted(self._names(kind)):
                if name in wanted or name.endswith(_SHARED):
                    self._get(run / kind / _file(kind, name))

    def outcome(self, cell: str) -> list[dict[str, Any]]:
        """Give what pytest said of a finished cell's test, phase by phase."""
        files, root = self._found()
        text = files.cat_file(posixpath.join(root, OUTCOMES, _file(OUTCOMES, cell)))
        found: list[dict[str, Any]] = json.loads(text)
        return found

    def _found(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            files, root = fsspec.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            message = (
                f"--rows {self.url}: no rows can be written there\n"
                f"  found:   {error}\n"
                "  allowed: a URL that fsspec knows: file, s3, gs and others\n"
                "  next:    install its package on all nodes, such as s3fs or gcsfs, "
                "or give another URL"
            )
            raise UsageError(message) from error
        return files, root.rstrip("/")

    def _is(self, run: Path) -> bool:
        """Say whether the URL is the run's folder itself."""
        files, root = self._found()
        return isinstance(files, LocalFileSystem) and Path(root).resolve() == run.resolve()

    def _names(self, kind: str) -> frozenset[str]:
        files, root = self._found()
        files.invalidate_cache()  # other nodes write there
        try:
            paths = files.ls(posixpath.join(root, kind), detail=False)
        except FileNotFoundError:
            return frozenset()
        return frozenset(_parts(posixpath.basename(path) for path in paths))

    def _put(self, part: Path) -> None:
        """Copy one part, if the cell has it: a store writes a key whole, a folder does not."""
        if not part.is_file():
            return
        files, root = self._found()
        final = posixpath.join(root, part.parent.name, part.name)
        if not isinstance(files, LocalFileSystem):
            files.put_file(str(part), final)
            return
        scratch = posixpath.join(root, part.parent.name, f".{part.name}.{os.getpid()}")
        files.put_file(str(part), scratch)
        Path(scratch).replace(final)

    def _get(self, part: Path) -> None:
        files, root = self._found()
        part.parent.mkdir(parents=True, exist_ok=True)
        scratch = part.with_name(f".{part.name}.{os.getpid()}")
        files.get_file(posixpath.join(root, part.parent.name, part.name), str(scratch))
        scratch.replace(part)


def _file(kind: str, name: str) -> str:
    return f"{name}.json" if kind == OUTCOMES else f"{name}.parquet"


def _parts(names: Iterable[str]) -> list[str]:
    return [
        name.removesuffix(".parquet")
        for name in names
        if name.endswith(".parquet") and not name.startswith(".")
    ]
