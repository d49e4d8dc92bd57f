"""The command `harness report`: a run or a gate for people to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli_names import found_run
from harness.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(report)


def report(
    run: Annotated[Path, typer.Argument(help="folder of a run or of a gate, or a run's name")],
    *,
    html: Annotated[Path | None, typer.Option(help="write a page that opens from disk")] = None,
) -> None:
    """Write a page of a run or a gate: one file, which needs no network."""
    if html is None:
        message = f"nothing is asked for; next: harness report {run} --html page.html"
        raise UsageError(message)
    _write_html(_found(run), html)


def _found(run: Path) -> Path:
    """Give the folder of a gate by its path, or else that of a run by its path or name."""
    from harness.report.gate_rows import FILE

    is_gate = (run / FILE).is_file() and not (run / "run.json").is_file()
    return run if is_gate else found_run(run)


def _write_html(folder: Path, file: Path) -> None:
    from harness.page.writing import data_of, write_page

    if file.is_dir():
        message = f"--html {file} is a folder; next: give a file, such as {file / 'page.html'}"
        raise UsageError(message)
    data = data_of(folder)
    write_page(data, file)
    print(f"written: {file}, {file.stat().st_size / 1e6:.1f} MB, of {data['title']}")
