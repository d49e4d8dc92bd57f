"""The command `harness coverage`: which config fields change numbers, and which are exercised."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli_progress import progress_bar, terminal
from harness.coverage import AT_LEAST
from harness.profile import DEFAULT

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from harness.coverage import Flips
    from harness.models.architectures import Architecture
    from harness.models.family import Family

_WIDTH = 150


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(coverage)


def coverage(
    *,
    family: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="breadth: flip the fields of every architecture")
    ] = DEFAULT.name,
    field: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="only these, e.g. hidden_act")
    ] = None,
    at_least: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="share of the fields that must be exercised")
    ] = AT_LEAST,
    out: Annotated[Path | None, typer.Option(help="write every field to this CSV file")] = None,
) -> None:
    """Say which config fields change the reference's numbers, and whether a variant exercises them.

    Found by experiment, one field at a time. Exit code 0: enough are, and the rest has its reason;
    1: too few are, a reason lacks or is stale; 2: the question could not be asked.

    With --profile breadth it says what flipping a field does, of every architecture of the
    installed transformers, and what of it is in the variant off_default.
    """
    if profile != DEFAULT.name:
        _breadth(profile, family or [], field or [], out)
        return
    from harness.coverage import faults_in, share
    from harness.errors import SelectionError
    from harness.measure.experiments import coverage_of
    from harness.report.fields import rest, summary, table, write_csv

    asked, foreign = _families(family or [])
    found = []
    with progress_bar() as progress:
        task = progress.add_task("", total=len(asked))
        for name, record in asked.items():
            found += coverage_of(
                record, step=partial(_show, progress, task, name), names=field or ()
            )
            progress.advance(task)
    if not found:
        message = f"no field {', '.join(field or ())} in {', '.join(asked)}; next: see --out"
        raise SelectionError(message)
    if out is not None:
        write_csv(found, out)
    console = terminal(width=_WIDTH, highlight=False)
    console.print(table(found))
    for line in rest(found):
        print(line)
    print()
    print(summary(found, variants=sum(len(record.variant_names) for record in asked.values())))
    reasons = {
        name: {key: why for key, why in record.unexercised.items() if not field or key in field}
        for name, record in asked.items()
    }
    if foreign:
        print(f"not asked, since transformers has no config class for them: {', '.join(foreign)}")
    faults = faults_in(found, reasons)
    if share(found) < at_least:
        faults.append(f"{share(found):.1%} of the fields are exercised, allowed: {at_least:.1%}")
    for line in faults:
        print(f"✗ {line}")
    if faults:
        raise typer.Exit(1)


def _families(names: list[str]) -> tuple[dict[str, Family], list[str]]:
    """Give the records that are asked, and the names of those that transformers has no class of.

    Raises:
        SelectionError: a name that no family has, or nothing is left to be asked.
    """
    from harness.errors import SelectionError
    from harness.models.families import FAMILIES
    from harness.selection import Selection, check_names

    check_names(Selection(family=tuple(names)), families=FAMILIES, variants=())
    asked = {name: FAMILIES[name] for name in dict.fromkeys(names or FAMILIES)}
    foreign = [name for name, record in asked.items() if not record.is_native]
    asked = {name: record for name, record in asked.items() if record.is_native}
    if not asked:
        message = f"transformers has no config class for {', '.join(foreign)}"
        raise SelectionError(message)
    return asked, foreign


def _breadth(profile: str, family: list[str], field: list[str], out: Path | None) -> None:
    """Print what flipping the fields of each architecture does."""
    from harness.errors import SelectionError, Unavailable
    from harness.known import check
    from harness.models.architectures import architectures
    from harness.report.flipped import lines, table, write_csv
    from harness.selection import Selection

    check(Selection(profile=(profile,), family=tuple(family)))
    if field:
        message = f"--field asks one of the fields of a family; --profile {profile} asks them all"
        raise SelectionError(message)
    asked = [each for each in architectures() if not family or each.model_type in family]
    found, reasons = _flips(asked)
    if not found:
        raise Unavailable("; ".join(reasons))
    if out is not None:
        write_csv(found, out)
    terminal(width=_WIDTH, highlight=False).print(table(found))
    for line in (*lines(found), *reasons):
        print(line)


def _flips(asked: list[Architecture]) -> tuple[dict[str, Flips], list[str]]:
    """Make the experiment with each architecture; give why there is none with some, too."""
    from harness.errors import Unavailable
    from harness.models.checkpoints.shrunk import flips_of

    found: dict[str, Flips] = {}
    reasons = []
    with progress_bar() as progress:
        task = progress.add_task("", total=len(asked))
        for each in asked:
            progress.update(task, description=f"{each.model_type}: {each.kind}")
            try:
                found[f"{each.model_type}-{each.variant}"] = flips_of(each.model_type, each.variant)
            except Unavailable as error:
                reasons.append(f"{each.model_type}-{each.variant}: {error}")
            progress.advance(task)
    return found, reasons


def _show(progress: Progress, task: TaskID, family: str, field: str) -> None:
    progress.update(task, description=f"{family}: {field}")
