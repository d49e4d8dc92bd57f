"""pytest-xdist's controller watches the workers: who dies of a cell, and who does not end it.

Such a cell is an error with its reason; another worker takes over what is left.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness.begun import FOLDER, begun_in, end, lose
from harness.guarding import hold
from harness.scheduling import cell_of
from harness.stopping import stopping, tell_to_stop

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

_POLL_SECONDS: Final = 0.5
_DUMP_SECONDS: Final = 1.0
"""What a process has to write where it is; faulthandler takes milliseconds."""
_DEATH_SECONDS: Final = 5.0
"""What a worker whose pipe is closed has to end; one that only closed its pipe has no exit code."""


class Watch:
    """A plugin of the controller."""

    def __init__(self, run: Path, cell_timeout: float) -> None:
        """Watch the workers of a run; a cell may take `cell_timeout` seconds."""
        self._run = run
        self._timeout = cell_timeout
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._hung: set[int] = set()
        self._left: set[str] = set()
        self._unread = False
        self._stopped = False
        self._ends = contextlib.ExitStack()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:  # noqa: ANN401 - xdist ships no annotations
        """Watch a worker from now on, if it has cells."""
        if not any(map(cell_of, ids)):
            return
        # xdist and execnet tell nobody the process of a worker.
        self._workers[node.gateway.id] = node.gateway._io.popen  # noqa: SLF001
        if self._stopped:
            tell_to_stop(self._workers[node.gateway.id].pid)
        if not self._thread.is_alive():
            self._left = {test for test in ids if cell_of(test)}
            hold(self._run, self._ends)
            self._thread.start()

    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Make the cell at which a worker died an error that says how."""
        cell = cell_of(crashitem)
        if cell is None:
            return
        reason = self._reason(report.node.gateway.id)
        report.longrepr = f"{cell}: {reason}"
        with contextlib.suppress(OSError):  # a full disk: without a row it is measured again
            lose(self._run, cell, reason)
            end(self._run, cell)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Cross off a test that a worker tells of."""
        self._left.discard(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember that a file of cases could not be read."""
        self._unread = self._unread or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keep a run from being green where nobody told of a cell, or cases could not be read."""
        if self._unread and self._workers:  # as pytest has it without workers
            session.exitstatus = pytest.ExitCode.INTERRUPTED
        elif self._left and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:  # noqa: ANN401 - as above
        """Say how many cells nobody told of."""
        if self._left:
            terminalreporter.write_line(
                f"NOT MEASURED, {len(self._left)} cells: the run was stopped, or lost its workers; "
                f"next: harness run --resume {self._run}"
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Have the run for this session, and stop after the cells at hand."""
        with self._ends, stopping(soon=self._stop_soon, now=self._stop_now):
            try:
                return (yield)
            finally:
                self._over.set()

    def _stop_soon(self) -> bool:
        self._stopped = bool(self._workers)
        for worker in self._workers.values():
            tell_to_stop(worker.pid)
        return self._stopped

    def _stop_now(self) -> None:
        for worker in self._workers.values():
            worker.kill()

    def _watch(self) -> None:
        ages: dict[tuple[str, int], float] = {}
        while not self._over.wait(_POLL_SECONDS):
            # Counted in looks of this process: one that is stopped with its workers does not age.
            ages = {
                begun: ages.get(begun, 0.0) + _POLL_SECONDS for begun in begun_in(self._run).items()
            }
            late = {pid for (_, pid), age in ages.items() if age > self._timeout}
            for worker in [each for each in self._workers.values() if each.pid in late]:
                self._end_hung(worker)

    def _end_hung(self, worker: subprocess.Popen[bytes]) -> None:
        if worker.pid in self._hung:
            return
        self._hung.add(worker.pid)
        worker.send_signal(signal.SIGUSR2)  # it writes where it is, see `watched`
        time.sleep(_DUMP_SECONDS)
        worker.kill()

    def _reason(self, name: str) -> str:
        worker = self._workers.get(name)
        if worker is None:
            return "its process died"
        where = _where(self._run, worker.pid)
        if worker.pid in self._hung:
            return f"it did not end within --cell-timeout, {self._timeout:g} s{where}"
        try:
            code = worker.wait(timeout=_DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            return "its process closed the pipe to the controller"
        if code >= 0:
            return f"its process ended with exit code {code}{where}"
        memory = ", as the kernel does where memory runs out" if code == -signal.SIGKILL else ""
        return f"its process was killed by {signal.Signals(-code).name}{memory}{where}"


def watched(run: Path) -> None:
    """Have this worker write where it is when it dies, and when its controller asks (SIGUSR2)."""
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    file = _said(run, os.getpid()).open("w", encoding="utf-8")
    faulthandler.enable(file, all_threads=False)
    faulthandler.register(signal.SIGUSR2, file, all_threads=False)


def _where(run: Path, worker: int) -> str:
    """Give the innermost line at which a worker was, if it could say so."""
    try:
        lines = _said(run, worker).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    frames = [line.strip() for line in lines if line.lstrip().startswith("File ")]
    return f"; it was at {frames[0]}" if frames else ""


def _said(run: Path, worker: int) -> Path:
    return run / FOLDER / f"{worker}.txt"
