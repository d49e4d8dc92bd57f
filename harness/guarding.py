"""In each process that measures: a cell's test ends with whole rows, or its cell is an error."""

from __future__ import annotations

import contextlib
import faulthandler
import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from harness import begun, stopping
from harness.errors import RunFolderError
from harness.storing import cannot_write

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from harness.case import Cell
    from harness.record import Row

_WORDS: Final = 300
"""Characters of an exception that a reason holds: a sentence, no log."""
_CAME_BACK: Final = "it forked, and the new process came back into the run: who measured what?"
_FIXTURE: Final = "check_cell"
_UNASKED: Final = f"its test ended, and {_FIXTURE} was not called with it: nothing was measured"


def measures(item: pytest.Item) -> bool:
    """Say whether a test asks for its cell to be measured, by itself or through a fixture."""
    return _FIXTURE in getattr(item, "fixturenames", ())


class Guard:
    """A plugin of whoever measures: a worker, a piece of a cluster, a session without workers."""

    def __init__(
        self,
        run: Path,
        *,
        open_run: Callable[[pytest.Session], object],
        cell_of: Callable[[pytest.Item], Cell | None],
        row_of: Callable[[Cell], Row],
    ) -> None:
        """Guard the cells of a run; `row_of` gives what stands if a cell's process dies."""
        self._run = run
        self._open_run = open_run
        self._cell_of = cell_of
        self._row_of = row_of
        self._pid = os.getpid()
        self._row: Row = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Say that a cell begins, before any fixture runs."""
        cell = self._cell_of(item)
        if cell is None or not measures(item):
            return
        with written(self._run, item.session):
            self._open_run(item.session)
            self._row = self._row_of(cell)
            begun.begin(self._run, self._row)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Make a cell an error whose test ended without rows; a forked process ends here.

        If the test was skipped, by a mark for instance, it is unavailable.
        """
        cell = self._cell_of(item)
        if os.getpid() != self._pid and self._row:
            begun.come_back(self._run, self._row, _CAME_BACK)
        if cell is None or not begun.has_begun(self._run, cell.id):
            return (yield)
        report = yield
        with contextlib.suppress(OSError):  # a full disk: without a row it is measured again
            if told := begun.check_alone(self._run, self._row):
                report.outcome, report.longrepr = "failed", f"{cell.id}: {told}"
            if report.skipped and call.excinfo is not None:
                words = f"its test was skipped: {call.excinfo.value}"[:_WORDS]
                begun.lose(self._run, cell.id, words, verdict="unavailable")
            if report.failed and call.excinfo is not None and not item.session.shouldstop:
                words = call.excinfo.exconly(tryshort=True)[:_WORDS]
                begun.lose(self._run, cell.id, f"its test's {call.when} raised {words}")
            if call.when == "teardown":
                if not item.session.shouldstop and begun.lose(self._run, cell.id, _UNASKED):
                    report.outcome, report.longrepr = "failed", f"{cell.id}: {_UNASKED}"
                begun.end(self._run, cell.id)
        return report


def hold(run: Path, ends: ExitStack) -> None:
    """Have a run for this session until `ends` does.

    Raises:
        pytest.UsageError: another session measures it, or its folder cannot be written.
    """
    try:
        ends.enter_context(begun.held(run))
    except RunFolderError as error:
        raise pytest.UsageError(str(error)) from error


@contextlib.contextmanager
def written(run: Path, session: pytest.Session) -> Iterator[None]:
    """Fail the test and stop the session where rows cannot be written: exit code 2."""
    try:
        yield
    except OSError as error:
        session.shouldstop = f"{run} cannot be written: {error.strerror or error}"
        told = cannot_write(run, error, then=f"--resume {run}")
    else:
        return
    pytest.fail(told, pytrace=False)


class Worker:
    """A plugin of a worker of pytest-xdist: it stops where its controller says so."""

    def pytest_collection_modifyitems(self, session: pytest.Session) -> None:
        """Obey from before the controller knows of any cell."""
        stopping.obey(partial(_stop, session))


class Alone:
    """A plugin of a session without workers. A cell that hangs ends it, and is named.

    Nothing in a process ends what does not give its interpreter back, but faulthandler.
    """

    def __init__(
        self, run: Path, *, cell_timeout: float, cell_of: Callable[[pytest.Item], Cell | None]
    ) -> None:
        """Let a cell take `cell_timeout` seconds."""
        self._run = run
        self._timeout = cell_timeout
        self._cell_of = cell_of
        self._stderr = os.dup(2)  # pytest captures the first two while tests run, not now

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Have the run for itself, and stop after a cell."""
        if session.config.option.collectonly or not any(map(self._cell_of, session.items)):
            return (yield)
        soon = partial(_stop, session)
        with ExitStack() as ends:
            hold(self._run, ends)
            ends.enter_context(stopping.stopping(soon=soon, now=bool, told=self._stderr))
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Let the cell take no longer."""
        if self._cell_of(item) is None:
            return (yield)
        faulthandler.dump_traceback_later(self._timeout, exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def pytest_unconfigure(self) -> None:
        """Give back what was taken."""
        os.close(self._stderr)


def _stop(session: pytest.Session) -> bool:
    session.shouldstop = stopping.STOPPED
    return True
