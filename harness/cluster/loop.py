"""Pytest's loop over tests, by a cluster: from a session's state to a driven run."""

from __future__ import annotations

import os
import posixpath
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.cluster.driving import asked_of, check_is_new, drive
from harness.cluster.engine import reached
from harness.cluster.piece import ALIKE, Piece, grouped
from harness.cluster.rows import Rows
from harness.measure.writing import open_run
from harness.provenance import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import pytest

    from harness.case import Cell

PASSED_ON: Final = (
    "HARNESS_CACHE",
    "PYTHONPATH",
    "PYTHONHASHSEED",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "HF_HUB_OFFLINE",
    "CUBLAS_WORKSPACE_CONFIG",
)
"""The driver's variables that its subprocesses get: what numbers and files depend on. No others,
so that no token of the driver's user travels; a node has its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a run is given to a cluster: where that is, where rows go, how long a cell may take."""

    address: str
    rows: str | None
    cell_timeout: float

    def rows_of(self, run: Path) -> Rows:
        """Give the place of a run's rows: its own folder, or one of its name at the URL."""
        return Rows(url=str(run) if self.rows is None else posixpath.join(self.rows, run.name))


def run_items(
    session: pytest.Session,
    order: Order,
    *,
    run: Path,
    resumed: bool,
    cell_of: Callable[[Any], Cell | None],
    controls: frozenset[str],
    selection: Mapping[str, Sequence[str]],
    plan: Mapping[str, Any],
    part: Mapping[str, Any] | None,
    asked: Mapping[str, Any],
) -> None:
    """Measure the cells among a session's tests on a cluster; all other tests run here."""
    config = session.config
    tests = asked_of(session.items, cell_of)
    rows = order.rows_of(run)
    if not resumed:
        check_is_new(rows, run)
    gathered = gather()
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    for item in session.items:
        if cell_of(item) is None:
            config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    if not tests:
        return
    pieces = [
        Piece(
            run_id=run.name,
            folder=str(config.invocation_params.dir),
            python=sys.executable,
            finding=_finding(config, [tests[cell.id].item for cell in group]),
            cells=[cell.id for cell in group],
            controls=sorted(controls.intersection(cell.id for cell in group)),
            selection=selection,
            plan=plan,
            trusted=config.getoption("trust_remote_code"),
            alike={name: gathered[name] for name in ALIKE},
            variables=variables,
            rows=rows.url,
            cell_timeout=order.cell_timeout,
            gpus=int(group[0].device == "cuda"),
        )
        for group in grouped(test.cell for test in tests.values())
    ]
    with reached(order.address) as engine:
        open_run(run, selection=selection, plan=plan, part=part, asked=asked)
        drive(tests, pieces, engine=engine, run=run, rows=rows)


def _finding(config: pytest.Config, items: Iterable[pytest.Item]) -> list[str]:
    """Give pytest's arguments by which a subprocess finds the same tests under the same ids."""
    option = config.option
    found = list(dict.fromkeys(str(item.path) for item in items))
    found += [f"--rootdir={config.rootpath}", f"--import-mode={option.importmode}"]
    found += [] if config.inipath is None else [f"-c{config.inipath}"]
    found += [f"-p{name}" for name in option.plugins]
    found += [f"-o{setting}" for setting in option.override_ini or ()]
    return found + [f"-W{rule}" for rule in option.pythonwarnings or ()]
