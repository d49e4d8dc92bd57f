"""Print what came of changing stored things: python -m tests.fuzz --inputs 10000."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.fuzz.hunting import (
    BAD,
    BY_HAND,
    NOTICED,
    OUTCOMES,
    REFUSED,
    SAME,
    UNCLEAR,
    UNEXPECTED,
    WRONG,
    Found,
    Hunt,
    hunt,
    trial_from,
)
from tests.fuzz.things import things

_SHOWN = 20


def table_of(found: Found) -> Table:
    """Give a row per thing, a column per outcome."""
    table = Table(title="stored things, changed and read", title_justify="left")
    table.add_column("")
    for name in ("inputs", *OUTCOMES):
        table.add_column(name, justify="right")
    for thing, counted in sorted(found.counts.items()):
        numbers = [counted.total(), *(counted[outcome] for outcome in OUTCOMES)]
        table.add_row(thing, *map(str, numbers))
    return table


def summary_of(found: Found, readers: int) -> str:
    """Give all counts in a sentence."""
    total = found.total
    return (
        f"{total()} mutated inputs of {len(found.counts)} stored things over {readers} readers: "
        f"{total(SAME)} read as before, {total(REFUSED)} refused in words, "
        f"{total(NOTICED)} noticed otherwise, {total(BY_HAND)} edited by hand and read so; "
        f"{total(UNEXPECTED)} unexpected exceptions, {total(WRONG)} wrong verdicts, "
        f"{total(UNCLEAR)} unclear errors"
    )


def main() -> int:
    """Hunt, print, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", help="one input, as it was printed")
    asked = parser.parse_args()
    warnings.simplefilter("error")
    console = Console(width=120, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        made = things(Path(folder) / "things")
        scratch = Path(folder) / "scratch"
        if asked.again:
            outcome, words = Hunt(made, scratch).try_(trial_from(asked.again))
            console.print(outcome, words, sep="\n", markup=False)
            return int(outcome in BAD)
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("inputs", total=asked.inputs)
            found = hunt(
                made,
                scratch,
                inputs=asked.inputs,
                first=asked.seed,
                progress=lambda done: bar.update(task, completed=done),
            )
    console.print(table_of(found))
    for trial, outcome, words in found.bad[:_SHOWN]:
        console.print(f"{outcome}: {trial}\n{words}", markup=False)
    console.print(summary_of(found, sum(len(thing.readers) for thing in made)), markup=False)
    return int(found.total() < asked.inputs or bool(found.bad))


if __name__ == "__main__":
    sys.exit(main())
