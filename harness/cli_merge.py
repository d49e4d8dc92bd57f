"""The command `harness merge`: the shards of a run as one. Thin."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli_names import RUNS, found_run
from harness.cli_progress import terminal

if TYPE_CHECKING:
    import pandas as pd


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(merge)


def merge(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="folders or names of all shards of a run")
    ],
    *,
    out: Annotated[Path | None, typer.Option(help="the merged run's folder")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="merge though shards are missing; the run says so")
    ] = False,
) -> None:
    """Make one run of the shards of `harness run --shard i/n`, and print it.

    Exit code 0: all is there and nothing is red; 1: something is red; 2: shards do not fit
    together, or one is missing.
    """
    from harness.judge.controls import uncaught
    from harness.merging import merge as merge_runs
    from harness.record import point_latest, read_cells, read_controls
    from harness.report.words import print_run

    now = dt.datetime.now(dt.timezone.utc)
    into = (out or RUNS / f"merged-{now:%Y%m%dT%H%M%S}").resolve()
    merge_runs([found_run(run) for run in runs], into, partial=partial)
    point_latest(into)
    console = terminal(highlight=False, soft_wrap=True)
    print_run(into, write=lambda line: console.print(line, markup=False))
    cells = read_cells(into)
    missed = uncaught(cells, read_controls(into))
    for line in missed:
        console.print(line, markup=False)
    console.print(f"next: harness gate --candidate {out or into.name}", markup=False)
    raise typer.Exit(_exit_code(cells, missed))


def _exit_code(cells: pd.DataFrame, missed: list[str]) -> int:
    """Give what the run would have ended with, had it been one."""
    from harness.record import RED

    verdicts = set(cells.verdict)
    if verdicts == {"unavailable"}:
        return 2
    return 1 if verdicts & RED or missed else 0
