"""Cells that have begun: the row of each that stands if its process dies of it.

It is written before the cell is measured, by whoever has the case in hand; who finds the process
dead has only the cell's name. It goes when the cell's test is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from harness.errors import RunFolderError
from harness.record import KINDS, has_part, write_json, write_part, write_text
from harness.storing import cannot_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.record import Row

FOLDER: Final = ".begun"
"""Below a run. Readers of parquet folders pass over such a name."""


def begin(run: Path, row: Row) -> None:
    """Say that this process measures a cell now, and which row it has if that kills the process."""
    write_json(_file(run, row["cell_id"]), {"pid": os.getpid(), "row": row})


def end(run: Path, cell: str) -> None:
    """Say that a cell's test is over."""
    _file(run, cell).unlink(missing_ok=True)
    _came_back(run, cell).unlink(missing_ok=True)


def begun_in(run: Path) -> dict[str, int]:
    """Give the cells that have begun and are not over, each with the process that measures it."""
    found: dict[str, int] = {}
    for file in (run / FOLDER).glob("[!.]*.json"):
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:  # over since it was listed
            continue
        found[told["row"]["cell_id"]] = told["pid"]
    return found


def has_begun(run: Path, cell: str) -> bool:
    """Say whether a cell has begun and is not over."""
    return _file(run, cell).is_file()


def lose(run: Path, cell: str, reason: str, *, verdict: str = "error") -> bool:
    """Make a cell that has begun an error, unless its rows are whole by now; say if it is one."""
    file = _file(run, cell)
    lost = has_begun(run, cell) and not has_part(run, "cells", cell)
    if lost:
        row = {**json.loads(file.read_text(encoding="utf-8"))["row"], "verdict": verdict}
        _write_loss(run, row, reason, seconds=time.time() - file.stat().st_mtime)
    return lost


def come_back(run: Path, row: Row, reason: str) -> None:
    """End a forked process that came back from its cell, which is an error whatever it measured.

    Both processes write the cell's rows, in whatever order. This one says so before it writes the
    error, the other one looks for that after its own row (`check_alone`): the error is last. By
    now the other one may be at its next cell.
    """
    write_text(_came_back(run, row["cell_id"]), reason)
    _write_loss(run, row, reason, seconds=0.0)
    os._exit(1)


def check_alone(run: Path, row: Row) -> str:
    """Give why a measured cell is an error all the same: a forked process came back; else ""."""
    try:
        reason = _came_back(run, row["cell_id"]).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    _write_loss(run, row, reason, seconds=0.0)
    return reason


@contextlib.contextmanager
def held(run: Path) -> Iterator[None]:
    """Have a run for one session. What an earlier one had begun has no rows, and is forgotten.

    Raises:
        RunFolderError: another session measures it, or its folder cannot be written.
    """
    lock = FileLock(run / ".measuring")
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        message = f"{run} is being measured by another process; wait, or give another --run"
        raise RunFolderError(message) from error
    except OSError as error:
        raise RunFolderError(cannot_write(run, error)) from error
    try:
        shutil.rmtree(run / FOLDER, ignore_errors=True)
        yield
        shutil.rmtree(run / FOLDER, ignore_errors=True)
    finally:
        lock.release()


def _write_loss(run: Path, row: Row, reason: str, *, seconds: float) -> None:
    cell = row["cell_id"]
    for kind in KINDS[:-1]:  # all but cells: what it had written by then is not whole
        (run / kind / f"{cell}.parquet").unlink(missing_ok=True)
    write_part(run, "cells", cell, [{**row, "reason": reason, "seconds": seconds}])


def _file(run: Path, cell: str) -> Path:
    return run / FOLDER / f"{cell}.json"


def _came_back(run: Path, cell: str) -> Path:
    return run / FOLDER / f"{cell}.forked"
