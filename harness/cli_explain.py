"""The command `harness explain`: what a stored cell found, in words. Thin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(explain)


def explain(
    run: Annotated[Path, typer.Argument(help="a run's folder or name, or `latest`")],
    cell: Annotated[str, typer.Argument(help="the cell's id")],
) -> None:
    """Say in words what differs in a cell, from where on, in which sense it agrees, and why."""
