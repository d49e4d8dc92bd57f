"""The faults: each starts a run, harms it at a random moment, and says what became of it."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.record import PACKED
from tests.chaos.checking import UNHARMED, Expected, Found, Rows, judged, rows_of
from tests.chaos.planted import MOMENTS, Planted
from tests.chaos.running import Chaos, wait, workers_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    Fault = Callable[[Chaos, random.Random, Rows], Found]


def in_a_cell(fault: str) -> Fault:
    """Give a fault that one cell meets at a random one of its moments."""

    def harm(chaos: Chaos, rng: random.Random, undisturbed: Rows) -> Found:
        cell, moment = rng.choice(sorted(undisturbed)), rng.choice(MOMENTS)
        planted = Planted(fault=fault, cell=cell, moment=moment)
        code = chaos.end(
            chaos.start(f"--cell-timeout={chaos.cell_timeout}", planted=planted.told())
        )
        expected = {
            "garbage": UNHARMED,
            # A forked process that came back makes its cell an error, whenever it forked.
            "fork": Expected(must_break=[cell], red=True),
        }.get(
            fault,
            Expected(may_break=[cell], red=True)
            if moment == "after"
            else Expected(must_break=[cell], red=True),
        )
        found = judged(chaos.run, undisturbed, before={}, code=code, expected=expected)
        return replace(found, words=f"{cell}, {moment}: {found.words}")

    return harm


def killed(*, stopped_first: bool) -> Fault:
    """Give the fault that ends all processes of a run at a random moment; then it is resumed."""

    def harm(chaos: Chaos, rng: random.Random, undisturbed: Rows) -> Found:
        process = chaos.start()
        wait(process, chaos.moment(rng))
        if stopped_first:
            chaos.signal(process, signal.SIGSTOP)
            time.sleep(rng.uniform(0.0, 2.0))
        chaos.signal(process, signal.SIGKILL)
        chaos.end(process)
        return _resumed(chaos, undisturbed)

    return harm


def stopped_for_a_while(chaos: Chaos, rng: random.Random, undisturbed: Rows) -> Found:
    """Stop all processes for longer than a cell may take, and let them go on."""
    process = chaos.start(f"--cell-timeout={chaos.cell_timeout}")
    wait(process, chaos.moment(rng))
    chaos.signal(process, signal.SIGSTOP)
    time.sleep(chaos.cell_timeout + 1.0)
    chaos.signal(process, signal.SIGCONT)
    code = chaos.end(process)
    return judged(chaos.run, undisturbed, before={}, code=code)


def worker_killed(chaos: Chaos, rng: random.Random, undisturbed: Rows) -> Found:
    """Kill one worker: the cell at hand may break, and nothing else."""
    process = chaos.start()
    wait(process, chaos.moment(rng))
    if workers := workers_of(process):
        subprocess.run(["kill", "-9", str(rng.choice(workers))], check=False, capture_output=True)
    code = chaos.end(process)
    if code == 2 and "a worker ended before it had begun" in chaos.said[-1]:
        return _resumed(chaos, undisturbed)
    broken = [cell for cell, (verdict, _) in rows_of(chaos.run).items() if verdict == "error"]
    # Which cell was at hand nobody knows but the run; more than one it cannot be.
    expected = Expected(may_break=broken[:1], red=bool(broken))
    return judged(chaos.run, undisturbed, before={}, code=code, expected=expected)


def interrupted(*, times: int) -> Fault:
    """Give the fault of somebody who presses Ctrl-C; then the run is resumed."""

    def harm(chaos: Chaos, rng: random.Random, undisturbed: Rows) -> Found:
        process = chaos.start()
        wait(process, chaos.moment(rng))
        for _ in range(times):
            chaos.signal(process, signal.SIGINT)
            time.sleep(rng.uniform(0.0, 1.0))
        code = chaos.end(process)
        finished = chaos.finished()
        if code == 0 and finished != undisturbed.keys():
            return Found(green=1, words=f"exit 0 after Ctrl-C with {len(finished)} cells")
        return _resumed(chaos, undisturbed)

    return harm


def disk_full(chaos: Chaos, rng: random.Random, undisturbed: Rows) -> Found:
    """Fill the disk of rows; then there is room, and the run is resumed."""
    return _without_room(chaos, f"size={rng.randrange(16, 700)}k", undisturbed)


def read_only(chaos: Chaos, _: random.Random, undisturbed: Rows) -> Found:
    """Let the folder of rows be read-only; then it is not, and the run is resumed."""
    return _without_room(chaos, "size=1m,ro", undisturbed)


def _without_room(chaos: Chaos, options: str, undisturbed: Rows) -> Found:
    mount(chaos.rows, options)
    code = chaos.whole()
    if found := _not_told(chaos, code, undisturbed):
        return found
    subprocess.run(["mount", "-o", "remount,rw,size=64m", str(chaos.rows)], check=True)
    return _resumed(chaos, undisturbed)


def part_corrupted(chaos: Chaos, rng: random.Random, undisturbed: Rows) -> Found:
    """Kill a run that has rows, and harm one part; the run says which, and what to do."""
    process = chaos.start()
    deadline = time.monotonic() + 5 * chaos.lasts
    wanted = rng.randrange(1, len(undisturbed))
    while len(chaos.finished()) < wanted and time.monotonic() < deadline:
        wait(process, 0.02)
    chaos.signal(process, signal.SIGKILL)
    chaos.end(process)
    finished = chaos.finished()
    parts = sorted(chaos.rows.glob("*/*/[!.]*.parquet"))
    if not parts or not finished or any(part.name == PACKED for part in parts):
        return _resumed(chaos, undisturbed)
    part = rng.choice(parts)
    case = part.stem.partition(".")[0]  # the rows of a reference are those of its whole case
    others = [cell for cell in finished if cell.partition(".")[0] != case]
    before = rows_of(chaos.run, others)
    harm_file(part, rng)
    code = chaos.whole()
    if code == 0 and part.stem in finished:
        return Found(green=1, words=f"exit 0 with {part.parent.name}/{part.name} harmed")
    rows = [part] if part.parent.name == "cells" else [part, *_rows_beside(part)]
    for file in rows:
        file.unlink(missing_ok=True)
    code = chaos.whole()
    return judged(chaos.run, undisturbed, before=before, code=code)


def harm_file(file: Path, rng: random.Random) -> None:
    """Cut a file short, or change a few of its bytes."""
    content = bytearray(file.read_bytes())
    if rng.random() < 0.5:
        file.write_bytes(content[: rng.randrange(len(content))])
        return
    start = rng.randrange(len(content) - 8)
    content[start : start + 8] = bytes(255 - byte for byte in content[start : start + 8])
    file.write_bytes(content)


def mount(folder: Path, options: str) -> None:
    """Mount a small file system in memory; who may not has not tried this fault."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def _rows_beside(part: Path) -> list[Path]:
    """Give the cells' rows to delete, so that a harmed part is measured again."""
    case = part.stem.partition(".")[0]
    own = part.parents[1] / "cells" / part.name
    return [own] if own.is_file() else list(own.parent.glob(f"{case}.*.parquet"))


def _not_told(chaos: Chaos, code: int, undisturbed: Rows) -> Found | None:
    """Find fault with a run whose rows had no room and that did not say so, with exit code 2."""
    said = chaos.said[-1]
    whole = chaos.finished() == undisturbed.keys()
    if code == 0 and not whole:
        return Found(green=1, words="exit 0 without all cells")
    if (code == 2 and "cannot be written" in said) or whole:
        return None
    return Found(wrong=1, words=f"exit {code}, and not told why: {said[-2000:]}")


def _resumed(chaos: Chaos, undisturbed: Rows) -> Found:
    """Resume a run that was ended, or begin it anew if it was none yet, and judge it."""
    before = rows_of(chaos.run, chaos.finished())
    if before.keys() == undisturbed.keys():
        return judged(chaos.run, undisturbed, before=before, code=1)
    code = chaos.whole()
    return judged(chaos.run, undisturbed, before=before, code=code)


FAULTS: dict[str, Fault] = {
    **{
        f"a cell: {name}": in_a_cell(name)
        for name in (
            "segfault",
            "out_of_memory",
            "exit",
            "hang",
            "hang_in_c",
            "stopped",
            "raise",
            "fork",
            "garbage",
        )
    },
    "kill -9": killed(stopped_first=False),
    "SIGSTOP, kill -9": killed(stopped_first=True),
    "SIGSTOP, SIGCONT": stopped_for_a_while,
    "a worker: kill -9": worker_killed,
    "Ctrl-C": interrupted(times=1),
    "Ctrl-C twice": interrupted(times=2),
    "disk full": disk_full,
    "read-only folder": read_only,
    "part corrupted": part_corrupted,
}
NEEDS_MOUNT = {"disk full", "read-only folder"}
