"""Activations kept for the modes to come: small ones in memory, large ones on disk if asked again.

A tiny model's prompts are a few megabytes. Of a large one, a set of activations is as large as a
block's weights: to hold every prompt's would double the memory, and to write each to disk would
cost a run of a single mode a tenth. So the first mode lets them go, the second puts them on disk,
and every later one reads them.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from torch import Tensor

Activations = dict[str, "Tensor"]

IN_MEMORY: Final = 64 * 2**20
"""Bytes kept in memory: the bank's prompts through a tiny model, in float64, a dozen times."""
ON_DISK: Final = 8 * 2**30
"""Bytes kept on disk, from which on a prompt is run again instead."""


class Shelf:
    """Activations by prompt. Its files go with it."""

    def __init__(self) -> None:
        """Start empty."""
        self._near: dict[str, Activations] = {}
        self._far: dict[str, Path] = {}
        self._asked: set[str] = set()
        self._near_bytes = self._far_bytes = 0
        self._folder: Path | None = None

    def get(self, name: str) -> Activations | None:
        """Give what is kept of a prompt; None where it is to be run (again)."""
        if name in self._far:
            return load_file(self._far[name])
        return self._near.get(name)

    def offer(self, name: str, taken: Activations) -> None:
        """Keep a prompt's activations if they are small, or if this is not the first time."""
        n_bytes = sum(tensor.nbytes for tensor in taken.values())
        if self._near_bytes + n_bytes <= IN_MEMORY:
            self._near[name] = taken
            self._near_bytes += n_bytes
        elif name in self._asked and self._far_bytes + n_bytes <= ON_DISK:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="harness-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            file = self._folder / f"{name}.safetensors"
            save_file({site: each.cpu().contiguous() for site, each in taken.items()}, file)
            self._far[name] = file
            self._far_bytes += n_bytes
        self._asked.add(name)

    def clear(self) -> None:
        """Let go of everything, and of what was asked."""
        for file in self._far.values():
            file.unlink(missing_ok=True)
        self._near.clear()
        self._far.clear()
        self._asked.clear()
        self._near_bytes = self._far_bytes = 0
