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
    run: Annotated[
        Path, typer.Argument(help="folder of a run or of a gate, or a run's name")
    ] = Path("latest"),
    *,
    html: Annotated[Path | None, typer.Option(help="write a page that opens from disk")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="write the summary of a job; `-` prints it")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="write a run as JUnit XML; a gate has gate.xml")
    ] = None,
    annotations: Annotated[
        bool, typer.Option(help="print a workflow command of GitHub for each red cell")
    ] = False,
) -> None:
    """Write a run or a gate for people: a page, a job's summary, annotations.

    Without a word the summary is printed. Exit code 0: it is told, whatever was found.
    """
    if html is None and markdown is None and junit is None and not annotations:
        markdown = Path("-")
    folder = _found(run)
    if html is not None:
        _write_html(folder, html)
    if markdown is not None:
        _write_markdown(folder, markdown)
    if junit is not None:
        _write_junit(folder, junit)
    if annotations:
        _print_annotations(folder)


def _found(run: Path) -> Path:
    """Give the folder of a gate by its path, or else that of a run by its path or name."""
    return run if _is_gate(run) else found_run(run)


def _is_gate(folder: Path) -> bool:
    """Say whether a folder is a gate's alone: a run that was gated holds both, and is a run."""
    from harness.report.gate_rows import FILE

    return (folder / FILE).is_file() and not (folder / "run.json").is_file()


def _write_html(folder: Path, file: Path) -> None:
    from harness.page.writing import data_of, write_page

    _refuse_folder(file, "--html", "page.html")
    data = data_of(folder)
    write_page(data, file)
    print(f"written: {file}, {file.stat().st_size / 1e6:.1f} MB, of {data['title']}")


def _write_markdown(folder: Path, file: Path) -> None:
    from harness.record import write_text
    from harness.report.summary import gate_markdown, run_markdown

    _refuse_folder(file, "--markdown", "summary.md")
    text = gate_markdown(folder) if _is_gate(folder) else run_markdown(folder)
    if file == Path("-"):
        print(text)
    else:
        write_text(file, text)


def _write_junit(folder: Path, file: Path) -> None:
    from harness.record import write_text
    from harness.report.run_junit import junit

    _refuse_folder(file, "--junit", "run.xml")
    if _is_gate(folder):
        message = f"{folder} is a gate, and has its JUnit already; next: {folder / 'gate.xml'}"
        raise UsageError(message)
    write_text(file, junit(folder))


def _print_annotations(folder: Path) -> None:
    from harness.report.annotations import of_gate, of_run

    for line in of_gate(folder) if _is_gate(folder) else of_run(folder):
        print(line)


def _refuse_folder(file: Path, option: str, name: str) -> None:
    if file.is_dir():
        message = f"{option} {file} is a folder; next: give a file, such as {file / name}"
        raise UsageError(message)
