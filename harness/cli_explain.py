"""The command `harness explain`: what a stored cell found, in words. Thin."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated, Final

import typer

from harness.cli_names import check_cell, found_run
from harness.cli_progress import terminal

_WIDTH: Final = 120


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(explain)


def explain(
    run: Annotated[Path, typer.Argument(help="a run's folder or name, or `latest`")],
    cell: Annotated[str, typer.Argument(help="the cell's id")],
) -> None:
    """Say in words what differs in a cell, since where, in which sense it agrees, and why.

    Exit code 0: it is explained, whatever was found; 2: there is no such run or cell.
    """
    from harness.judge.explain import explain_stored
    from harness.record import read_cells
    from harness.report.explained import COMMAND, ITEM, explained

    folder = found_run(run)
    check_cell(cell, list(map(str, read_cells(folder).cell_id)), run=run)
    console = terminal()
    # Where nobody's terminal has a width, one in which a sentence is a line or two.
    width = console.width if console.is_terminal else _WIDTH
    for line in explained(explain_stored(folder, cell, name=str(run))):
        if line.startswith(COMMAND):  # to be copied, so that it is never broken
            print(line)
            continue
        indent = " " * len(ITEM if line.startswith(ITEM) else "  ")
        print(textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False))
