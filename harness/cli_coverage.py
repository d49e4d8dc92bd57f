"""The command `harness coverage`: which config fields change numbers, and which are exercised."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from harness.coverage import AT_LEAST

_WIDTH = 150


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(coverage)


def coverage(
    *,
    family: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
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
    """
    from harness.coverage import faults_in, share
    from harness.errors import SelectionError
    from harness.measure.experiments import coverage_of
    from harness.models.families import FAMILIES
    from harness.report.fields import rest, summary, table, write_csv
    from harness.selection import Selection, check_names

    selection = Selection(family=tuple(family or ()))
    check_names(selection, families=FAMILIES, variants=())
    asked = {name: FAMILIES[name] for name in dict.fromkeys(family or FAMILIES)}
    foreign = [name for name, record in asked.items() if not record.is_native]
    asked = {name: record for name, record in asked.items() if record.is_native}
    if not asked:
        message = f"transformers has no config class for {', '.join(foreign)}"
        raise SelectionError(message)
    found = []
    columns = (TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
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
    console = Console(width=_WIDTH, highlight=False)
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


def _show(progress: Progress, task: TaskID, family: str, field: str) -> None:
    progress.update(task, description=f"{family}: {field}")
