"""The commands that search over versions: bisect, blame, sweep. Thin."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness.cli_gate import Drawn, Given, Names, Python, Seed, checked_selection, watching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.searching.probing import Ground
    from harness.selection import Selection

_RUNS: Final = Path("reports/runs")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(bisect)


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
    )
    span = releases_between(package, good, bad, pre=pre, yanked=yanked, python=python)
    folder = out or _folder("bisect")
    with _ground(selection, folder, prompts, prompt_seed, given, python) as ground:
        found = run_bisect(span, ground, checks=check)
    for line in (*found.notes, f"written: {folder / 'bisect.json'}", found.answer):
        print(line)


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


def _folder(command: str) -> Path:
    now = dt.datetime.now(dt.timezone.utc)
    return _RUNS / f"{command}-{now:%Y%m%dT%H%M%S}"
