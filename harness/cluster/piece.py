"""A piece: the cells of one case, and all that a node needs to know to measure them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.errors import UsageError
from harness.merging import difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.case import Cell

ALIKE: Final = ("commit", "python", "packages")
"""Of what `harness.provenance` gathers: what all nodes of a run must have as the driver has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one task is asked.

    `folder` is where pytest was called, `python` the environment's interpreter and `finding` the
    arguments by which its tests are found: the same on each node. `selection`, `plan` and
    `controls` are the driver's, so that a piece asks as a whole run does. `alike` is what the node
    must have as the driver has it, `rows` the URL of the run's parts, `parent` the process that
    waits for it.
    """

    run_id: str
    folder: str
    python: str
    finding: Sequence[str]
    cells: Sequence[str]
    controls: Sequence[str]
    selection: Mapping[str, Sequence[str]]
    plan: Mapping[str, Any]
    trusted: Sequence[str]
    alike: Mapping[str, Any]
    variables: Mapping[str, str]
    rows: str
    cell_timeout: float
    gpus: int = 0
    parent: int = 0

    def of(self, cells: Iterable[str], *, parent: int) -> Piece:
        """Give the piece of some of its cells, for a subprocess of `parent`."""
        return dataclasses.replace(self, cells=tuple(cells), parent=parent)

    def written(self) -> dict[str, Any]:
        """Give it as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, file: Path) -> Piece:
        """Read what `written` gave."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def check(self, gathered: Mapping[str, Any]) -> None:
        """See that this node has what the driver has.

        Raises:
            UsageError: its commit, its Python or a package is another; one line says which.
        """
        for name in ALIKE:
            if gathered.get(name) != self.alike.get(name):
                told = difference(name, self.alike.get(name), gathered.get(name))
                message = (
                    f"this node is not as the driver is: {told}; next: bring all nodes to one "
                    "commit and one set of packages, then --resume the run"
                )
                raise UsageError(message)


def grouped(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Put the cells of a case on one device together, in the order given.

    They share the case's reference and oracle. On another device they share neither.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.case.id, cell.device), []).append(cell)
    return list(groups.values())
