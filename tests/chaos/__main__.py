"""The command: runs with a random fault each, and a table of what became of them.

Exit codes: 0 nothing was lost, wrong or green that should not be; 1 something was; 2 not asked.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.checking import Found, Rows, is_whole, rows_of
from tests.chaos.faults import FAULTS, NEEDS_MOUNT, mount
from tests.chaos.planted import write_folder
from tests.chaos.running import Chaos

SIDE_BY_SIDE = 2


def main(arguments: list[str]) -> int:
    """Do what the arguments say; give the exit code."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", action="append", choices=list(FAULTS))
    given = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="harness-chaos-") as scratch:
        folder = Path(scratch)
        names = list(given.only or FAULTS)
        if not may_mount(folder / "mount"):
            console.print(f"NOT TRIED: {', '.join(NEEDS_MOUNT)}: this user may not mount")
            names = [name for name in names if name not in NEEDS_MOUNT]
        first = chaos_in(folder / "first", jobs=1, lasts=60.0)
        first.whole()  # writes checkpoints, and reads all that is imported from the disk
        first = chaos_in(folder / "second", jobs=1, lasts=60.0)
        started = time.monotonic()
        code = first.whole()
        lasts = time.monotonic() - started
        undisturbed = rows_of(first.run)
        if code != 0 or not is_whole(undisturbed, undisturbed) or not undisturbed:
            console.print(f"not asked: a run without a fault exits with {code}\n{first.said[-1]}")
            return 2
        console.print(
            f"{given.runs} runs of {len(undisturbed)} cells, each {lasts:.0f} s; seed {given.seed}"
        )
        # Each fault as often as the others, in random order.
        rng = random.Random(given.seed)
        plan = [names[number % len(names)] for number in range(given.runs)]
        rng.shuffle(plan)

        def ask(number: int) -> tuple[str, Found]:
            rng = random.Random(f"{given.seed}.{number}")
            chaos = chaos_in(folder / str(number), jobs=rng.choice([1, 1, 2]), lasts=lasts)
            found = harmed(plan[number], chaos, rng, undisturbed)
            mark = "BAD" if found.bad else "ok"
            console.print(f"  {number} {plan[number]}: {mark} {found.words}", markup=False)
            return plan[number], found

        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            results = list(pool.map(ask, range(given.runs)))
    return told(console, results)


def chaos_in(folder: Path, *, jobs: int, lasts: float) -> Chaos:
    """Give a run that is not begun, in a folder of its own."""
    return Chaos(folder=write_folder(folder), rows=folder / "rows", jobs=jobs, lasts=lasts)


def harmed(fault: str, chaos: Chaos, rng: random.Random, undisturbed: Rows) -> Found:
    """Do one run with its fault; an error of the chaos itself is no clean run."""
    try:
        found = FAULTS[fault](chaos, rng, undisturbed)
    except Exception:  # noqa: BLE001 - the others go on, and this one is told
        return Found(wrong=1, words=traceback.format_exc())
    finally:
        if os.path.ismount(chaos.rows):
            subprocess.run(["umount", str(chaos.rows)], check=False)
    if found.bad:
        words = f"{found.words}; {chaos.jobs} workers\n{chaos.said[-1][-4000:]}"
        return Found(lost=found.lost, wrong=found.wrong, green=found.green, words=words)
    return found


def may_mount(folder: Path) -> bool:
    """Say whether this user may mount a file system in memory."""
    try:
        mount(folder, "size=64k")
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def told(console: Console, results: list[tuple[str, Found]]) -> int:
    """Print the table; give the exit code."""
    by: dict[str, list[Found]] = defaultdict(list)
    for fault, found in results:
        by[fault].append(found)
    by = {name: by[name] for name in FAULTS if name in by} | {"all": [each for _, each in results]}
    table = Table(title="runs with a random fault each", title_justify="left", width=90)
    table.add_column("fault")
    for name in ("runs", "finished cells lost", "wrong verdicts", "wrongly green"):
        table.add_column(name, justify="right")
    for fault, found in by.items():
        sums = [sum(each.lost for each in found), sum(each.wrong for each in found)]
        sums.append(sum(each.green for each in found))
        if fault == "all":
            table.add_section()
        table.add_row(fault, str(len(found)), *map(str, sums))
    console.print(table)
    return int(any(found.bad for _, found in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
