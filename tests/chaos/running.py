"""Starts real runs, each in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.record import finished_cells

if TYPE_CHECKING:
    import random

_LONGEST = 300.0
"""Seconds: twenty times what a run takes; one that takes longer hangs."""
_ASKED = ("--mode=hf_sdpa,bridge", "--dtype=exact,float32", "--probe=none", "--prompts=0")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(slots=True, kw_only=True)
class Chaos:
    """One run: its folder of cases, its folder of rows, how many workers, and how long it takes.

    `lasts` is in seconds, and is of a run that nobody disturbs.
    """

    folder: Path
    rows: Path
    jobs: int
    lasts: float
    said: list[str] = field(default_factory=list)

    @property
    def cell_timeout(self) -> float:
        """Give what a cell may take: the first of a process imports, beside another run."""
        return 3 * self.lasts

    def moment(self, rng: random.Random) -> float:
        """Give a random moment of the run, in seconds; it may be over by then."""
        return rng.uniform(0.05, 1.3) * self.lasts

    @property
    def run(self) -> Path | None:
        """Give the run's folder; None before it is one."""
        found = [file.parent for file in self.rows.glob("*/run.json")]
        return next((run for run in found if not run.is_symlink()), None)

    def finished(self) -> frozenset[str]:
        """Name the cells that have rows by now."""
        return finished_cells(self.run) if self.run else frozenset()

    def start(self, *options: str, planted: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a run, or resume the one that there is."""
        asked = [f"--resume={self.run}"] if self.run else list(_ASKED)
        command = [sys.executable, "-c", "from harness.cli import main; main()", "run"]
        command += ["--cases=.", f"--out={self.rows}", f"--jobs={self.jobs}", *asked, *options]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **_ONE_THREAD, **(planted or {})},
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "said.txt").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[str]) -> int:
        """Wait for a run's end; give its exit code.

        Raises:
            subprocess.TimeoutExpired: the run itself hangs, which no fault may make it do.
        """
        try:
            return process.wait(_LONGEST)
        finally:
            self.signal(process, signal.SIGKILL)
            process.wait()
            self.said.append((self.folder / "said.txt").read_text(errors="replace"))

    def whole(self) -> int:
        """Run or resume without a fault."""
        return self.end(self.start())

    def signal(self, process: subprocess.Popen[str], number: int) -> None:
        """Send a signal to all processes of a run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Give the workers of a run: the grandchildren of its process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = stat.read_text().partition(" ")
            group = int(rest.rpartition(")")[2].split()[2])
            said = (stat.parent / "cmdline").read_bytes()
            if group == process.pid and b"readline" in said:
                found.append(int(pid))
    return found


def wait(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait so long, or until a run ends."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
