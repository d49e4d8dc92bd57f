"""What a run did not measure, and what differs in it, with reasons: lists of a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.report.markdown import link, quoted
from harness.report.marks import MARKS
from harness.report.standing import NOT_FINITE, REFERENCE, is_red, outcome_of, state_of

if TYPE_CHECKING:
    from harness.report.standing import Name, Standing

Row = Mapping[str, Any]


def not_measured(found: Sequence[Standing], architectures: Collection[Name]) -> list[str]:
    """Give what could not be asked, each reason once: architectures, modes, then probes."""
    parts: dict[str, dict[tuple[str, str], list[str]]] = {}
    for each in found:
        for title, what, reason in _refusals(each):
            groups = parts.setdefault(title, {})
            groups.setdefault((what, reason), []).append(_name(architectures, each))
    lines = ["## Not measured", ""]
    for title in ("Architectures", "Loading modes", "Probes"):
        if title in parts:
            lines += [f"### {title}", ""]
            lines += [
                f"- {what}{quoted(reason)} ({len(names)}): {', '.join(names)}"
                for (what, reason), names in parts[title].items()
            ]
            lines.append("")
    return lines if parts else [*lines, "Nothing: all that was asked was measured.", ""]


def _refusals(standing: Standing) -> list[tuple[str, str, str]]:
    """Give what could not be asked of an architecture: under which title, what, and why."""
    refused = [row for row in standing.rows if outcome_of(row) == "unavailable"]
    if standing.absent:
        reasons = dict.fromkeys(_general(standing, row) for row in refused)
        return [("Architectures", "", reason) for reason in reasons]
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for row in refused:
        title = "Loading modes" if row["probe"] is None else "Probes"
        groups.setdefault((title, _general(standing, row)), {})[_asked(standing, row)] = None
    return [(title, f"{', '.join(what)}: ", reason) for (title, reason), what in groups.items()]


def _asked(standing: Standing, row: Row) -> str:
    """Name what a row asked; its dtype is said where others of it were measured."""
    mode, probe, dtype = (row[axis] for axis in ("loading_mode", "probe", "dtype"))
    siblings = [r for r in standing.rows if (r["loading_mode"], r["probe"]) == (mode, probe)]
    name = mode if probe is None else probe if mode == REFERENCE else f"{mode} {probe}"
    return str(name) if state_of(siblings) == "unavailable" else f"{name} in {dtype}"


def _general(standing: Standing, row: Row) -> str:
    """Give a reason without the names of the type and its class, so that many share it."""
    reason = str(row["reason"]).replace(standing.architecture.class_name, "…")
    named = reason.removeprefix(standing.family)
    return f"…{named}" if named != reason and named[:1] in {":", " "} else reason


def what_differs(found: Sequence[Standing], place: str | None) -> list[str]:
    """Give a line for each cell that is red, then for each that is known."""
    rows = [row for each in found for row in each.rows]
    red = [row for row in rows if is_red(row)]
    known = [row for row in rows if outcome_of(row) == "known"]
    lines = ["## What differs", ""]
    for title, part in (("Red", red), ("Known", known)):
        if part:
            lines += [f"### {title} ({len(part)})", "", *(_line(row, place) for row in part), ""]
    return lines if red or known else [*lines, "Nothing.", ""]


def _line(row: Row, place: str | None) -> str:
    outcome = outcome_of(row)
    mark = MARKS.get(outcome, outcome)
    where = f" at `{row['first_site']}`" if row["first_site"] else ""
    reason = "passes, though its worst number is not finite"
    reason = reason if outcome == NOT_FINITE else quoted(str(row["reason"]))
    links = [
        link(target.rpartition("/")[2].removesuffix(".md"), target, place=place)
        for target in str(row["limitation"] or "").split()
    ]
    return f"- `{row['cell_id']}` {mark}{where}: {reason}" + (
        f" ({', '.join(links)})" if links else ""
    )


def _name(architectures: Collection[Name], standing: Standing) -> str:
    """Name an architecture; its kind is said where its type has several."""
    kinds = sum(family == standing.family for family, _ in architectures)
    return standing.family if kinds == 1 else f"{standing.family} ({standing.kind})"
