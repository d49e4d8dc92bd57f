"""The command `harness compatibility`: a run of the breadth profile as a public page."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from harness.case import EXACT, OFF_DEFAULT, SHRUNK
from harness.cli_names import found_run
from harness.errors import RunFolderError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd

    from harness.report.standing import Architecture, Name
    from harness.selection import Selection

PAGE: Final = Path("docs/compatibility.md")
_NEXT: Final = "harness run --profile breadth"
_FEW: Final = 3
_NARROWING: Final = ("family", "variant", "mode", "device", "probe")
"""Axes on which a run asks for a part if it asks for something. Of dtypes only exact must be in."""
_PLAN: Final = {"drawn": ("--prompts", 3), "seed": ("--prompt-seed", 0)}
"""Of the plan of a run: its option and what it is without a word."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(compatibility)


def compatibility(
    run: Annotated[
        Path, typer.Argument(help="a run's folder or name; it asked for --profile breadth")
    ] = Path("latest"),
    *,
    out: Annotated[Path, typer.Option(help="the page")] = PAGE,
) -> None:
    """Write the page of a breadth run: each architecture, what agrees, what differs and where.

    Exit code 2: the run is no whole run of that profile; the page is left as it was then.
    """
    from harness.record import read_cells, read_run, require, write_text
    from harness.report.compatibility import Page, markdown

    folder = found_run(run)
    described = read_run(folder)
    require(folder, described, "packages", "started")
    require(folder, described["packages"], "transformers")
    selection = _selection(folder, described)
    narrowed = _narrowed(selection)
    _check_out(out, narrowed)
    architectures = _architectures(folder, described)
    cells = read_cells(folder)
    _check_whole(folder, selection, cells, architectures)
    place = _place(out)
    where = (
        f" --out {Path(place, out.name).as_posix()}" if place is not None and out != PAGE else ""
    )
    page = Page(
        described=described,
        architectures=architectures,
        command=f"harness compatibility {folder.name}{where}",
        measured_by=_measured_by(described, selection),
        place=place,
        narrowed="; ".join(f"{axis} {', '.join(names)}" for axis, names in narrowed.items()),
    )
    write_text(out, markdown(page, cells))
    print(f"written: {out}, of {len(cells)} cells of {folder.name}")


def _selection(folder: Path, described: Mapping[str, Any]) -> Selection:
    """Give what a run was asked for.

    Raises:
        UsageError: it is not the breadth profile, and that alone; or its relations were forced.
    """
    from harness.judge.baseline import refuse_forced
    from harness.profile import BREADTH
    from harness.selection import selection_of

    refuse_forced(folder, described)
    selection = selection_of(described)
    if selection.profile != (BREADTH.name,):
        found = ", ".join(selection.profile) or "no profile by name"
        message = (
            f"{folder.name} is no run of the profile {BREADTH.name}\n"
            f"  found:   {found}\n"
            f"  next:    {_NEXT}, or name a run of it: harness compatibility RUN"
        )
        raise UsageError(message)
    return selection


def _narrowed(selection: Selection) -> dict[str, tuple[str, ...]]:
    """Give the axes on which a part of the profile was asked for."""
    asked = selection.asked()
    narrowed: dict[str, tuple[str, ...]] = {
        axis: asked[axis] for axis in _NARROWING if axis in asked
    }
    if selection.dtype and EXACT not in selection.dtype:
        narrowed["dtype"] = selection.dtype
    return narrowed


def _check_out(out: Path, narrowed: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a place that cannot hold the page, and a part where the whole belongs."""
    if out.is_dir():
        message = f"--out {out} is a folder; next: give a file, such as {PAGE}"
        raise UsageError(message)
    if narrowed and out.resolve() == PAGE.resolve():
        asked = " ".join(f"--{axis} {','.join(names)}" for axis, names in narrowed.items())
        message = (
            f"the run asked for a part alone ({asked}), and {PAGE} is of all architectures\n"
            f"  next:    {_NEXT}, or write the part elsewhere: --out FILE"
        )
        raise UsageError(message)


def _architectures(folder: Path, described: Mapping[str, Any]) -> dict[Name, Architecture]:
    """Give every architecture of the transformers that the run was measured with.

    Raises:
        UsageError: another release is installed: it alone could say which there are.
    """
    from harness.report.standing import Architecture

    measured, installed = described["packages"]["transformers"], version("transformers")
    if measured != installed:
        message = (
            f"{folder.name} was measured with transformers {measured}, and here is {installed}, "
            "which has other architectures\n"
            f"  next:    install transformers=={measured}, or measure anew: {_NEXT}"
        )
        raise UsageError(message)
    from harness.models.architectures import architectures

    return {
        (each.model_type, variant): Architecture(
            kind=each.kind if variant == each.variant else f"{each.kind}, {OFF_DEFAULT}",
            class_name=each.class_name,
        )
        for each in architectures()
        for variant in each.variants
    }


def _check_whole(
    folder: Path, selection: Selection, cells: pd.DataFrame, known: Collection[Name]
) -> None:
    """Refuse a run that lacks cells that it was asked for, has strange ones, or measured none.

    Raises:
        RunFolderError: says how many, and some of them.
    """
    from harness.gating import cases_for
    from harness.judge.sides import records
    from harness.selection import cells_of, probe_cells_of

    cases = cases_for(selection)
    asked = [*cells_of(cases, selection), *probe_cells_of(cases, selection)]
    there = set(cells.cell_id)
    lacking = [cell.id for cell in asked if selection.admits(cell) and cell.id not in there]
    if lacking:
        message = (
            f"{folder.name} is not whole: {len(lacking)} cells that it was asked for are not "
            f"there, such as {', '.join(lacking[:_FEW])}\n"
            f"  next:    harness run --resume {folder.name}"
        )
        raise RunFolderError(message)
    strange = [
        row["cell_id"]
        for row in records(cells)
        if row["checkpoint"] != SHRUNK or (row["family"], row["variant"]) not in known
    ]
    if strange:
        message = (
            f"{folder.name} has {len(strange)} cells of no architecture of the profile, such as "
            f"{', '.join(strange[:_FEW])}\n  next:    {_NEXT}"
        )
        raise RunFolderError(message)
    if set(cells.verdict) == {"unavailable"}:
        reason = cells.reason.iloc[0]
        message = (
            f"{folder.name} measured nothing: each of its {len(cells)} cells was unavailable, the "
            f"first since: {reason}\n  next:    harness show {folder.name}"
        )
        raise RunFolderError(message)


def _measured_by(described: Mapping[str, Any], selection: Selection) -> str:
    """Give the command line that asks what the run was asked; it names no folder."""
    words = ["harness run"]
    words += [f"--{axis} {','.join(names)}" for axis, names in selection.asked().items()]
    plan = described.get("plan", {})
    words += [
        f"{option} {plan[name]}"
        for name, (option, default) in _PLAN.items()
        if plan.get(name, default) != default
    ]
    return " ".join(words)


def _place(out: Path) -> str | None:
    """Give the folder of the page from here; None where it lies elsewhere."""
    folder, here = out.resolve().parent, Path.cwd()
    return folder.relative_to(here).as_posix() if folder.is_relative_to(here) else None
