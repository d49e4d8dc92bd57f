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

from harness.record import finished_cells

_LONGEST = 300.0
"""Seconds: twenty times what a run takes; one that takes longer hangs."""
_ASKED = ("--mode=hf_sdpa,bridge", "--dtype=exact,float32", "--probe=none", "--prompts=0")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
HUNG = -999


@dataclass(slots=True, kw_only=True)
class Chaos:
    """One run: its folder of cases, its folder of rows, and how many workers."""

    folder: Path
    rows: Path
    jobs: int
    said: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path | None:
        """Give the run's folder; None before it is one."""
        return next((file.parent for file in self.rows.glob("*/run.json")), None)

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
        """Wait for a run's end; give its exit code, `HUNG` if it has none."""
        try:
            code = process.wait(_LONGEST)
        except subprocess.TimeoutExpired:
            code = HUNG
        finally:
            self.signal(process, signal.SIGKILL)
            process.wait()
        self.said.append((self.folder / "said.txt").read_text(errors="replace"))
        return code

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
