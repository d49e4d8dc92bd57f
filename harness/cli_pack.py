"""The command `harness pack`: the parts of a run as one file per kind. Thin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli_names import found_run


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(pack)


def pack(
    run: Annotated[Path, typer.Argument(help="a run's folder or name")] = Path("latest"),
) -> None:
    """Pack a run's parts: one file per kind of row, read in a moment. Runs that end are packed.

    Exit code 0: it is packed, or was; every row stays as it is.
    """
    from harness.record import pack as pack_run

    folder = found_run(run)
    before = _bytes_of(folder)
    parts = pack_run(folder)
    print(f"{parts} parts packed, {before / 1e6:.1f} MB are {_bytes_of(folder) / 1e6:.1f} MB")


def _bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*/*.parquet"))
