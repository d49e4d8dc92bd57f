"""Flips in words: of each architecture, how many fields were flipped and what became of them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.coverage import Flips

_COUNTS: Final = (
    "flipped",
    "change logits",
    "in off_default",
    "change nothing",
    "do not build",
    "not tried",
)
_COLUMNS: Final = ("architecture", "field", "found", "before", "after", "change", "why")


def counts(flips: Flips) -> tuple[int, ...]:
    """Count the fields of an architecture, by what became of them."""
    found = (flips.changing, flips.joined, flips.idle, flips.failing, flips.untried)
    return (flips.tried, *(len(each) for each in found))


def table(found: Mapping[str, Flips]) -> Table:
    """Give the table: each architecture's counts, and their sums."""
    drawn = Table("architecture")
    for name in _COUNTS:
        drawn.add_column(name, justify="right")
    rows = {name: counts(flips) for name, flips in found.items()}
    for name, numbers in rows.items():
        drawn.add_row(name, *(str(number) for number in numbers))
    drawn.add_section()
    sums = (sum(column) for column in zip(*rows.values(), strict=True))
    drawn.add_row(f"all {len(rows)}", *(str(number) for number in sums))
    return drawn


def lines(found: Mapping[str, Flips]) -> list[str]:
    """Give a line for each architecture whose experiment was cut, or in which nothing changes."""
    said = []
    for name, flips in found.items():
        if flips.untried:
            said.append(f"{name}: the time was up; not tried: {', '.join(flips.untried)}")
        if not flips.joined:
            said.append(f"{name}: none of the fields that were flipped changes its logits")
    return said


def write_csv(found: Mapping[str, Flips], file: Path) -> None:
    """Write every field that was flipped, or that was not reached, one per line."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _COLUMNS)
        writer.writeheader()
        for name, flips in found.items():
            writer.writerows({"architecture": name, **row} for row in _rows(flips))


def _rows(flips: Flips) -> Iterator[dict[str, Any]]:
    for flip in flips.changing:
        yield {
            "field": flip.name,
            "found": "in off_default" if flip.name in flips.joined else "changes logits",
            "before": flip.before,
            "after": flip.after,
            "change": flip.change,
            "why": flips.apart.get(flip.name, ""),
        }
    yield from ({"field": name, "found": "changes nothing"} for name in flips.idle)
    for name, why in flips.failing.items():
        yield {"field": name, "found": "does not build", "why": why}
    yield from ({"field": name, "found": "not tried"} for name in flips.untried)
