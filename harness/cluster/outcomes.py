"""What pytest says of each cell's test, written beside its rows.

A test may hold more than `check_cell` does, or fail in a fixture: rows alone would make it green.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from harness.cluster.rows import OUTCOMES
from harness.record import finished_cells, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import pytest

_BEGUN: Final = "begun"


class Recorder:
    """A plugin of the subprocess: writes which test has begun, and how each ended."""

    def __init__(self, config: pytest.Config, run: Path) -> None:
        """Write below the run's folder."""
        self._config = config
        self._run = run
        self._said: list[Any] = []
        self.cells: Mapping[str, str] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write which cell's test has begun: who dies now, dies of it."""
        self._said = []
        write_text(self._run.parent / _BEGUN, self.cells[nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what is said of a phase of the test."""
        told = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._said.append(told)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write how the test ended."""
        write_json(self._run / OUTCOMES / f"{self.cells[nodeid]}.json", self._said)


def begun_in(run: Path) -> str | None:
    """Name the cell whose test began last, if one did."""
    file = run.parent / _BEGUN
    return file.read_text(encoding="utf-8") if file.is_file() else None


def ended_in(run: Path, cells: Collection[str]) -> list[str]:
    """Name those of the cells whose rows are whole and whose test is over."""
    finished = finished_cells(run)
    return [
        cell for cell in cells if cell in finished and (run / OUTCOMES / f"{cell}.json").is_file()
    ]


def outcome_in(run: Path, cell: str) -> list[dict[str, Any]]:
    """Give what pytest said of a cell's test that is over, phase by phase."""
    file = run / OUTCOMES / f"{cell}.json"
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found
