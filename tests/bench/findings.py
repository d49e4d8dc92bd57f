"""What a bench finds: a number with its unit, and the target that it is held against."""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.record import finished_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One number. `at_most` or `at_least` is the target; without one it is told, not held."""

    bench: str
    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Say whether the target is met; None where there is none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def target(self) -> str:
        """Give the target in words."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return "" if self.at_least is None else f"≥ {self.at_least:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """CPU seconds and wall seconds of a piece of work, and the process' peak memory in MiB."""

    cpu: float
    wall: float
    peak_mb: float


class Clock:
    """Measures in this process and its threads, from when it is made."""

    def __init__(self) -> None:
        """Start."""
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self) -> Usage:
        """Give what was used since."""
        return Usage(
            cpu=time.process_time() - self._cpu,
            wall=time.perf_counter() - self._wall,
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )


def interleaved(works: dict[str, Callable[[], Usage]], *, times: int) -> dict[str, list[Usage]]:
    """Do each work so many times, in turns, so that a slow minute is slow for all of them."""
    found: dict[str, list[Usage]] = {name: [] for name in works}
    for _ in range(times):
        for name, work in works.items():
            found[name].append(work())
    return found


def median(usages: Sequence[Usage], what: str) -> float:
    """Give the median of one figure."""
    return statistics.median(getattr(usage, what) for usage in usages)


def median_ratio(over: Sequence[Usage], under: Sequence[Usage], what: str) -> float:
    """Give the median of the ratios of neighbours in time."""
    pairs = zip(over, under, strict=True)
    return statistics.median(getattr(one, what) / getattr(other, what) for one, other in pairs)


def in_a_process(module: str, *arguments: str, **variables: str) -> dict[str, Any]:
    """Run a module of the bench in a fresh process with one thread; give the JSON that it prints.

    `variables` are more variables of its environment.

    Beside what it says, it has `cpu`, `wall` and `peak_mb` of the whole process.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD, **variables},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**said, "cpu": cpu, "wall": wall}


def a_run(out: Path, name: str, *options: str, processes: int = 1) -> Usage:
    """Run the matrix with so many workers to its end, without a gate; give what it used.

    Raises:
        RuntimeError: it did not end with rows written.
    """
    workers = (f"-n{processes}",) if processes > 1 else ()
    here = (f"--out={out}", f"--run={name}", "-q", "-p", "no:cacheprovider")
    cases = str(ROOT / "cases" / "test_ports_agree.py")
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", cases, *here, *workers, *options],
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        check=False,
        text=True,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, 1} or not finished_cells(out / name):
        raise RuntimeError(done.stdout + done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Usage(cpu=cpu, wall=wall, peak_mb=after.ru_maxrss / 1024)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Give k of cost ~ size**k, by least squares of the logarithms."""
    fitted = statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, costs)))
    return fitted.slope


def tell(**said: Any) -> None:
    """Print what `in_a_process` reads, with this process' peak memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**said, "peak_mb": peak}))  # noqa: T201 - it is read


def usage_of(said: dict[str, Any]) -> Usage:
    """Give what a process used."""
    return Usage(cpu=said["cpu"], wall=said["wall"], peak_mb=said["peak_mb"])
