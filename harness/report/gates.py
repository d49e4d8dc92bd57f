"""A gate in words: a table for terminals, Markdown, JUnit XML, and gate.json."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from rich.table import Table

from harness.judge.gate import VERDICTS
from harness.record import write_sealed, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from harness.judge.gate import Gate, GateCell

SCHEMA_VERSION: Final = 1
"""Of gate.json; docs/gate.md documents its fields."""

_QUIET: Final = frozenset({"unchanged", "rounding", "unmeasured"})
"""Verdicts without a row, unless they are worse; what was not measured stands below, by reason."""
_COLUMNS: Final = (
    "cell",
    "verdict",
    "nature",
    "first site",
    "drift",
    "logits",
    "error old → new",
    "prompt",
    "moved by",
)
_SHOWN: Final = 60
_STYLES: Final = {True: "red", False: ""}


def write_gate(gate: Gate, out: Path) -> None:
    """Write gate.json, gate.md and gate.xml (JUnit) into a folder."""
    write_sealed(out / "gate.json", as_json(gate))
    write_text(out / "gate.md", markdown(gate))
    write_text(out / "gate.xml", junit(gate))


def as_json(gate: Gate) -> dict[str, Any]:
    """Give a gate as plain JSON values; an infinite number is the string "inf"."""
    return {
        "schema_version": SCHEMA_VERSION,
        "overall": gate.overall,
        "exit_code": gate.exit_code,
        "baseline": gate.baseline,
        "candidate": gate.candidate,
        "packages": [
            {"name": change.name, "old": change.old, "new": change.new} for change in gate.packages
        ],
        "counts": dict(counts(gate)),
        "cells": [_cell_json(cell) for cell in gate.cells],
    }


def counts(gate: Gate) -> list[tuple[str, int]]:
    """Give how many cells have each verdict, in the order of the verdicts, none left out."""
    found = Counter(cell.verdict for cell in gate.cells)
    return [(verdict, found[verdict]) for verdict in VERDICTS if found[verdict]]


def _cell_json(cell: GateCell) -> dict[str, Any]:
    return {
        "cell_id": cell.cell_id,
        "family": cell.family,
        "variant": cell.variant,
        "checkpoint": cell.checkpoint,
        "loading_mode": cell.loading_mode,
        "dtype": cell.dtype,
        "device": cell.device,
        "probe": cell.probe,
        "verdict": cell.verdict,
        "worse": cell.worse,
        "reason": cell.reason,
        "attribution": cell.attribution,
        "nature": cell.nature,
        "moved_by": list(cell.moved_by),
        "first_site": cell.first_site,
        "drift": _number(cell.drift),
        "drift_reference": _number(cell.drift_reference),
        "drift_port": _number(cell.drift_port),
        "drift_logits": _number(cell.drift_logits),
        "error_ratio": {
            "old": _number(cell.error_ratio_old),
            "new": _number(cell.error_ratio_new),
        },
        "prompt": cell.prompt,
        "lost_sites": list(cell.lost_sites),
    }


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def headline(gate: Gate) -> str:
    """Give the verdict on the whole in one sentence."""
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts(gate))
    return f"{gate.overall}: {told} ({gate.baseline} → {gate.candidate})"


def packages_line(gate: Gate) -> str:
    """Give the packages that differ, in one line."""
    return ", ".join(map(str, gate.packages)) or "no package differs"


def table(gate: Gate) -> Table:
    """Give a rich table of every cell whose numbers are not as they were, the worse ones first."""
    shown = Table(title=headline(gate), caption=packages_line(gate), title_justify="left")
    for column in _COLUMNS:
        shown.add_column(column, overflow="fold")
    for cell in _told(gate)[:_SHOWN]:
        shown.add_row(*_words(cell), style=_STYLES[cell.worse])
    return shown


def markdown(gate: Gate) -> str:
    """Give the same as Markdown, every cell of it, and what was said of cells without numbers."""
    lines = [f"**{headline(gate)}**", "", packages_line(gate), ""]
    lines += [f"| {' | '.join(_COLUMNS)} |", "|" + "---|" * len(_COLUMNS)]
    rows = [[word.replace("|", "\\|") for word in _words(cell)] for cell in _told(gate)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    said = [f"- {' '.join(words.split())}" for words in reasons(gate)]
    return "\n".join([*lines, "", *said, ""])


def has_rows(gate: Gate) -> bool:
    """Say whether the table has a row: whether any cell's numbers are not as they were."""
    return bool(_told(gate))


def left_out(gate: Gate) -> str:
    """Say how many cells the table leaves out, and where they are."""
    more = len(_told(gate)) - _SHOWN
    return f"… and {more} more cells: gate.md has all of them" if more > 0 else ""


def reasons(gate: Gate) -> list[str]:
    """Give what was said of cells that have no numbers: each reason once, with how many have it."""
    said = Counter((cell.verdict, cell.reason) for cell in gate.cells if cell.reason)
    return [f"{number} {verdict}: {reason}" for (verdict, reason), number in said.most_common()]


def junit(gate: Gate) -> str:
    """Give JUnit XML: a test case per cell; worse is a failure, unmeasured is skipped."""
    suite = ET.Element(
        "testsuite",
        name="harness gate",
        tests=str(len(gate.cells)),
        failures=str(len(gate.worse)),
        skipped=str(sum(cell.verdict == "unmeasured" for cell in gate.cells)),
    )
    for cell in gate.cells:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"{cell.family}.{cell.variant}",
            name=".".join(filter(None, (cell.loading_mode, cell.dtype, cell.device, cell.probe))),
        )
        told = " · ".join(filter(None, (*_words(cell)[1:], cell.reason)))
        if cell.worse:
            ET.SubElement(case, "failure", message=cell.verdict).text = told
        elif cell.verdict == "unmeasured":
            ET.SubElement(case, "skipped", message=cell.reason)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _told(gate: Gate) -> list[GateCell]:
    moved = [cell for cell in gate.cells if cell.worse or cell.verdict not in _QUIET]
    return sorted(moved, key=lambda cell: (not cell.worse, VERDICTS.index(cell.verdict)))


def _words(cell: GateCell) -> tuple[str, ...]:
    prompt = ""
    if cell.prompt is not None:
        rows, length = len(cell.prompt["tokens"]), len(cell.prompt["tokens"][0])
        prompt = f"{cell.prompt['origin']} {rows}x{length}"
    return (
        cell.cell_id,
        cell.verdict,
        cell.nature,
        cell.first_site or "",
        _short(cell.drift),
        _short(cell.drift_logits),
        f"{_short(cell.error_ratio_old)} → {_short(cell.error_ratio_new)}",
        prompt,
        ", ".join(cell.moved_by),
    )


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
