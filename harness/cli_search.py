"""The commands that search over versions: bisect, blame, sweep. Thin."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness.cli_gate import Drawn, Given, Names, Python, Seed, checked_selection, watching
from harness.cli_progress import terminal
from harness.selection import NONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from harness.searching.probing import Ground
    from harness.selection import Selection

Probes = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="probes; without, none is asked")
]

_RUNS: Final = Path("reports/runs")
_SPEC: Final = 'requirements ("transformers==5.9.0") or `current`'
_WIDTH: Final = 200


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(bisect)
    app.command()(blame)
    app.command()(sweep)


def bisect(
    *,
    package: Annotated[str, typer.Option(help="the package whose releases are searched")],
    good: Annotated[str, typer.Option(metavar="VERSION", help="a release that is right")],
    bad: Annotated[str, typer.Option(metavar="VERSION", help="a release that is worse")],
    family: Names = None,
    variant: Names = None,
    mode: Names = None,
    dtype: Names = None,
    device: Names = None,
    checkpoint: Names = None,
    probe: Probes = None,
    prompts: Drawn = 3,
    prompt_seed: Seed = 0,
    given: Given = "",
    python: Python = None,
    pre: Annotated[bool, typer.Option("--pre", help="search pre-releases too")] = False,
    yanked: Annotated[bool, typer.Option("--yanked", help="search yanked releases too")] = False,
    check: Annotated[
        int, typer.Option(min=0, help="further releases, to see whether it turned only once")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="folder of the runs and bisect.json")] = None,
) -> None:
    """Find the first release of a package that shows what the bad one shows.

    Exit code 0: found; 2: the question could not be asked, as where the bad one is not bad.
    """
    from harness.searching.bisecting import releases_between, run_bisect

    selection = checked_selection(
        family=family,
        variant=variant,
        mode=mode,
        dtype=dtype,
        device=device,
        checkpoint=checkpoint,
        probe=probe or [NONE],
    )
    span = releases_between(package, good, bad, pre=pre, yanked=yanked, python=python)
    folder = out or _folder("bisect")
    with _ground(selection, folder, prompts, prompt_seed, given, python) as ground:
        found = run_bisect(span, ground, checks=check)
    for line in (*found.notes, f"written: {folder / 'bisect.json'}", found.line):
        print(line)


def blame(
    *,
    baseline: Annotated[str, typer.Option(metavar="SPEC", help=_SPEC)],
    candidate: Annotated[str, typer.Option(metavar="SPEC", help=_SPEC)],
    family: Names = None,
    variant: Names = None,
    mode: Names = None,
    dtype: Names = None,
    device: Names = None,
    checkpoint: Names = None,
    probe: Probes = None,
    prompts: Drawn = 3,
    prompt_seed: Seed = 0,
    given: Given = "",
    python: Python = None,
    out: Annotated[Path | None, typer.Option(help="folder of the runs and blame.json")] = None,
) -> None:
    """Find the smallest set of package changes that makes the candidate worse.

    Exit code 0: found; 2: the question could not be asked, as where nothing is worse.
    """
    from harness.searching.blaming import run_blame

    selection = checked_selection(
        family=family,
        variant=variant,
        mode=mode,
        dtype=dtype,
        device=device,
        checkpoint=checkpoint,
        probe=probe or [NONE],
    )
    folder = out or _folder("blame")
    with _ground(selection, folder, prompts, prompt_seed, given, python) as ground:
        found = run_blame(baseline, candidate, ground)
    for line in (*found.notes, f"written: {folder / 'blame.json'}", found.line):
        print(line)


def sweep(
    *,
    spec: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="requirements; may be repeated")
    ] = None,
    package: Annotated[str, typer.Option(help="a package of which --versions are swept")] = "",
    versions: Annotated[
        list[str] | None, typer.Option(metavar="VERSIONS", help="its releases, by commas")
    ] = None,
    family: Names = None,
    variant: Names = None,
    mode: Names = None,
    dtype: Names = None,
    device: Names = None,
    checkpoint: Names = None,
    prompts: Drawn = 0,
    prompt_seed: Seed = 0,
    given: Given = "",
    python: Python = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the runs, sweep.parquet and sweep.md")
    ] = None,
) -> None:
    """Say who works with whom: version sets × families, each set in its own environment.

    Without --spec and --package it sweeps the releases of harness/versions/grid.csv; without
    selectors the default variant of each family, exact and float32, as users load it. Given the
    same --out again it goes on where it was. Exit code 0: measured; 2: nothing could be.
    """
    from harness.report import sweeps
    from harness.searching.sweeping import grid_of, run_sweep
    from harness.selection import values_of

    selection = checked_selection(
        family=family,
        variant=variant,
        mode=mode,
        dtype=dtype,
        device=device,
        checkpoint=checkpoint,
    )
    specs = grid_of(spec or (), package, values_of(versions or ()))
    folder = out or _folder("sweep")
    with _ground(selection, folder, prompts, prompt_seed, given, python) as ground:
        found = run_sweep(specs, ground)
    (folder / "sweep.md").write_text(sweeps.markdown(found.rows))
    console = _wide_console()
    console.print(sweeps.table(found.rows))
    for line in (sweeps.LEGEND, *sweeps.reasons_of(found.rows)):
        console.print(line, markup=False)
    print(f"written: {found.file}, {folder / 'sweep.md'}")


@contextmanager
def _ground(  # noqa: PLR0917 - the options of every search, in their order
    selection: Selection, out: Path, drawn: int, seed: int, given: str, python: str | None
) -> Iterator[Ground]:
    """Give what holds for a whole search; steps go to stdout as they end."""
    from harness.gating import Plan
    from harness.searching.probing import Ground

    with watching() as watcher:
        yield Ground(
            selection=selection,
            plan=Plan(out=out, drawn=drawn, seed=seed),
            watcher=watcher,
            heard=lambda step: print(step, flush=True),
            given=given,
            python=python,
        )


def _wide_console() -> Console:
    """Give a console; where nobody's terminal has a width, one that fits the table."""
    console = terminal(highlight=False)
    return console if console.is_terminal else terminal(highlight=False, width=_WIDTH)


def _folder(command: str) -> Path:
    now = dt.datetime.now(dt.timezone.utc)
    return _RUNS / f"{command}-{now:%Y%m%dT%H%M%S}"
