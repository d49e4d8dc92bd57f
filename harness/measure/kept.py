"""The port at hand: loaded once for all probes that are put to it, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.models.ports import load_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.case import Cell
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner


class KeptPort:
    """Loads a port; keeps the last one that probes were put to. A comparison has its own."""

    def __init__(self, load: Callable[[Cell, Checkpoint], Runner] = load_port) -> None:
        """Start with none; `load` gives one."""
        self._load = load
        self._key: tuple[str, ...] = ()
        self._kept: Runner | Exception | None = None

    def __call__(self, cell: Cell, checkpoint: Checkpoint) -> Runner:
        """Give the port of a cell; one that cannot be loaded says so for every probe."""
        if cell.probe is None:
            self._key, self._kept = (), None
            return self._load(cell, checkpoint)
        key = (cell.case.id, cell.loading_mode, cell.dtype, cell.device)
        if key != self._key:
            self._key, self._kept = key, None
            try:
                self._kept = self._load(cell, checkpoint)
            except Exception as error:
                self._kept = error
                raise
        if self._kept is None or isinstance(self._kept, Exception):
            raise self._kept or RuntimeError(cell)
        return self._kept
