"""The command `harness history`: many runs, and where a cell took a step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli_names import RUNS
from harness.cli_progress import terminal
from harness.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(history)


def history(
    runs: Annotated[Path, typer.Argument(help="a folder of runs")] = RUNS,
    *,
    family: Annotated[str | None, typer.Option(help="one family alone")] = None,
    html: Annotated[Path | None, typer.Option(help="write a page that opens from disk")] = None,
    out: Annotated[Path | None, typer.Option(help="write the steps to this parquet file")] = None,
) -> None:
    """Say where cells took a step over many runs: the first run, and what changed with it.

    Exit code 0: no step was for the worse; 1: one was; 2: the question could not be asked.
    """
    from harness.history.finding import find_steps, series_of
    from harness.history.reading import history_of, read_history
    from harness.report.histories import table_of

    if not runs.is_dir():
        message = f"{runs} is no folder; next: give a folder of runs, such as {RUNS}"
        raise UsageError(message)
    found = history_of(runs)
    frame = read_history(runs, family=family, history=found)
    series = series_of(frame, len(found.nights))
    steps = find_steps(series, found.nights)
    console = terminal(highlight=False, soft_wrap=True)
    if not steps.empty:
        console.print(table_of(steps))
    worse = int(steps.worse.sum())
    of = f"{len(found.nights)} runs of {len(series.cells)} cells"
    console.print(f"{of}: {len(steps)} steps, {worse} for the worse", markup=False)
    for name, reason in found.left_out.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        steps.astype({"before": str, "after": str}).to_parquet(out)
    if html is not None:
        from harness.page.of_history import data_of_history
        from harness.page.writing import write_page

        write_page(data_of_history(str(runs), found, series, steps), html)
        console.print(f"written: {html}, {html.stat().st_size / 1e6:.1f} MB", markup=False)
    raise typer.Exit(1 if worse else 0)
