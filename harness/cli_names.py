"""Runs and cells as a command line names them, and what to say of a name that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.errors import RunFolderError
from harness.selection import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS: Final = Path("reports/runs")
_FEW: Final = 10


def found_run(run: Path) -> Path:
    """Give the run's folder: a path, or a name below reports/runs.

    Raises:
        RunFolderError: there is no such run; says the nearest, and the latest ones.
    """
    for candidate in (run, RUNS / run):
        if (candidate / "run.json").is_file():
            return candidate.resolve()
    names = sorted(path.name for path in RUNS.glob("*") if (path / "run.json").is_file())
    there = ", ".join(names[-_FEW:]) or "none yet"
    message = f"{run} is not a run; {did_you_mean(str(run), names)}below {RUNS}: {there}"
    raise RunFolderError(message)


def check_cell(cell: str, names: Sequence[str], *, run: Path) -> None:
    """Refuse a cell that the run does not have.

    Raises:
        RunFolderError: there is no such cell; says the nearest, and some others.
    """
    if cell not in names:
        some = ", ".join(names[:_FEW])
        meant = did_you_mean(cell, names)
        message = f"{run} has no cell {cell!r}; {meant}it has {len(names)}, such as {some}"
        raise RunFolderError(message)
