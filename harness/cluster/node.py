"""What a node does with a piece: attempts, until each cell has its rows or a reason.

A cell that takes its subprocess down is measured once more, alone; the others go on without it.
"""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cluster.attempt import Ending, attempt
from harness.cluster.outcomes import outcome_in
from harness.cluster.rows import Rows
from harness.errors import RunFolderError
from harness.merging import MACHINE
from harness.record import read_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cluster.piece import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Why a cell has no rows, in words, and how many seconds were spent on finding out."""

    words: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a piece gave: how tests ended, why other cells have no rows, and on what machine."""

    node: str = field(default_factory=platform.node)
    outcomes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    lost: dict[str, Loss] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)


def measure(piece: Piece) -> Answer:
    """Measure the cells of a piece that have no rows yet at its URL, and bring their rows there."""
    rows, answer = Rows(url=piece.rows), Answer()
    for cell in rows.finished().intersection(piece.cells):
        answer.outcomes[cell] = rows.outcome(cell)

    def left(cells: Sequence[str]) -> list[str]:
        return [cell for cell in cells if cell not in answer.outcomes and cell not in answer.lost]

    suspects: list[str] = []
    while together := [cell for cell in left(piece.cells) if cell not in suspects]:
        ending = _attempt(piece, together, rows, answer)
        if not (missing := left(together)):
            break
        if not ending.refused and ending.begun in missing:
            suspects.append(ending.begun)
        else:  # it died before the first test, or after the last: so would the next one
            answer.lost.update(dict.fromkeys(missing, _loss(ending, answer.node)))
    for cell in suspects:
        ending = _attempt(piece, [cell], rows, answer)
        if left([cell]):
            answer.lost[cell] = _loss(ending, answer.node, again=True)
    return answer


def _attempt(piece: Piece, cells: Sequence[str], rows: Rows, answer: Answer) -> Ending:
    def take(run: Path, ended: Sequence[str]) -> None:
        rows.publish(run, ended)
        answer.outcomes.update({cell: outcome_in(run, cell) for cell in ended})

    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        part = piece.of(cells, parent=os.getpid())
        ending = attempt(part, Path(scratch), take=take)
        try:
            described = read_run(Path(scratch) / piece.run_id)
        except RunFolderError:  # it did not get that far
            return ending
    answer.machine = {key: described.get(key) for key in MACHINE}
    return ending


def _loss(ending: Ending, node: str, *, again: bool = False) -> Loss:
    alone = " (alone, too)" if again else ""
    said = f"; it said: {ending.said}" if ending.said else ""
    words = f"not measured on node {node}: {ending.words}{alone}{said}"
    return Loss(words=words, seconds=ending.seconds)
