"""The driver's side: pieces from collected tests, reports from answers, and a whole run at the end.

What pytest does around its loop (selecting, counting, the exit code, the summary) stays pytest's.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness.cluster.node import Answer, Loss
from harness.errors import RunFolderError, UsageError
from harness.record import finished_cells, read_cells, read_run, write_part, write_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.case import Cell
    from harness.cluster.engine import Engine
    from harness.cluster.piece import Piece
    from harness.cluster.rows import Rows

PATIENCE_SECONDS: Final = 300.0
"""How long no node at all may be there before cells are given up: a machine boots in less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A collected test of a cell."""

    item: pytest.Item
    cell: Cell


def asked_of(
    items: Sequence[pytest.Item], cell_of: Callable[[Any], Cell | None]
) -> dict[str, Asked]:
    """Give the tests of cells, by cell.

    Raises:
        UsageError: two tests measure one cell: its rows are one, and so must be its outcome.
    """
    tests: dict[str, Asked] = {}
    for item in items:
        cell = cell_of(item)
        if cell is None:
            continue
        if cell.id in tests:
            message = (
                f"--executor ray: {cell.id} is measured by two tests\n"
                f"  found:   {tests[cell.id].item.nodeid}, {item.nodeid}\n"
                "  next:    name one of them, or leave --executor out"
            )
            raise UsageError(message)
        tests[cell.id] = Asked(item=item, cell=cell)
    return tests


def drive(
    tests: Mapping[str, Asked], pieces: Sequence[Piece], *, engine: Engine, run: Path, rows: Rows
) -> None:
    """Have pieces measured and tell pytest of each test; what is not there at the end is red."""
    executor: dict[str, Any] = {"name": "ray", "nodes": engine.nodes}
    machines: list[dict[str, Any]] = read_run(run).get("executor", {}).get("machines", [])
    try:
        with closing(engine.answers(pieces, patience=PATIENCE_SECONDS)) as answers:
            for piece, found in answers:
                answer = found if isinstance(found, Answer) else _given_up(piece, rows, found)
                if answer.machine and answer.machine not in machines:
                    machines.append(answer.machine)
                for cell, said in answer.outcomes.items():
                    _replay(tests[cell].item, said)
                for cell, loss in answer.lost.items():
                    _write_loss(tests[cell].cell, loss, run, rows)
                    _tell_loss(tests[cell].item, loss.words)
                _stop_if_asked(next(iter(tests.values())).item.session)
    finally:
        rows.fetch(run, tuple(tests))
        executor["machines"] = machines
        write_sealed(run / "run.json", {**read_run(run), "executor": executor})
    for cell, words in _not_once(run, tests).items():
        _tell_loss(tests[cell].item, words)


def check_is_new(rows: Rows, run: Path) -> None:
    """Refuse a URL where a run of this name has rows already, unless it is that run.

    Raises:
        RunFolderError: they would be taken for this run's, whatever they were measured with.
    """
    if found := rows.finished():
        message = (
            f"{rows.url} has {len(found)} cells already\n"
            f"  next:    --resume {run.name} where it was begun, or give another --run or --rows"
        )
        raise RunFolderError(message)


def _given_up(piece: Piece, rows: Rows, words: str) -> Answer:
    """Give the answer of a piece that nobody answered: what is there by now, and what is not."""
    there = rows.finished()
    loss = Loss(words=f"not measured: {words}", seconds=0.0)
    return Answer(
        outcomes={cell: rows.outcome(cell) for cell in piece.cells if cell in there},
        lost={cell: loss for cell in piece.cells if cell not in there},
    )


def _replay(item: pytest.Item, said: Sequence[dict[str, Any]]) -> None:
    """Tell pytest what the subprocess's pytest said of a test."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for data in said:
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
        if isinstance(
            report.longrepr, list
        ):  # of a skip: JSON has no tuples, and pytest asks for one
            report.longrepr = tuple(report.longrepr)
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _write_loss(cell: Cell, loss: Loss, run: Path, rows: Rows) -> None:
    from harness.measure.run import lost_row  # noqa: PLC0415 - it knows models, the rest does not

    row = lost_row(cell, run.name, reason=loss.words, seconds=loss.seconds)
    write_part(run, "cells", cell.id, [row])
    rows.publish(run, [cell.id])


def _tell_loss(item: pytest.Item, words: str) -> None:
    """Tell pytest of a test that nobody finished: failed, in words."""
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=f"{item.name}: {words}",
        when="call",
    )
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _not_once(run: Path, tests: Mapping[str, Asked]) -> dict[str, str]:
    """Say of each cell that was asked for and is not in the run exactly once."""
    count = Counter(read_cells(run).cell_id) if finished_cells(run) else Counter()
    return {
        cell: (
            f"{count[cell]} rows came back for it, not one; next: give --rows a URL that all "
            "nodes and this machine share"
        )
        for cell in tests
        if count[cell] != 1
    }


def _stop_if_asked(session: pytest.Session) -> None:
    """Stop where pytest would between two tests, as after --maxfail."""
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
