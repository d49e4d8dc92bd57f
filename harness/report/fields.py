"""Coverage in words: family × field, the variant that exercises it, and the rest with reasons."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Final

from rich.table import Table

from harness.coverage import EFFECTS, Field, share

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOT_EXERCISED: Final = "– not exercised"


def table(found: Sequence[Field]) -> Table:
    """Give the table: each family's fields that matter, under the variant that exercises them."""
    drawn = Table("family", "exercised", "in variant", "fields that change numbers")
    for family in dict.fromkeys(field.family for field in found):
        mattering = [field for field in found if field.family == family and field.matters]
        drawn.add_section()
        exercised = sum(field.exercised for field in mattering)
        first = (family, f"{exercised} of {len(mattering)}")
        for variant, names in _by_variant(mattering).items():
            drawn.add_row(*first, variant, ", ".join(names))
            first = ("", "")
    return drawn


def rest(found: Sequence[Field]) -> list[str]:
    """Give a line for each field that matters or is undecided and that no variant exercises."""
    lines = []
    for field in found:
        if field.exercised or field.effect == "none":
            continue
        why = field.reason or "NO REASON GIVEN"
        lines.append(f"{field.family}: {field.name} ({EFFECTS[field.effect]}): {why}")
    return lines


def summary(found: Sequence[Field], *, variants: int) -> str:
    """Give the sum in one line."""
    mattering = [field for field in found if field.matters]
    exercised = sum(field.exercised for field in mattering)
    families = len({field.family for field in found})
    idle = sum(field.effect == "none" for field in found)
    return (
        f"{exercised} of {len(mattering)} fields that change numbers are exercised "
        f"({share(found):.1%}), over {families} families and {variants} variants; "
        f"{idle} further fields change nothing"
    )


def write_csv(found: Sequence[Field], file: Path) -> None:
    """Write every field, those that change nothing too, one per line."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [column.name for column in fields(Field)])
        writer.writeheader()
        writer.writerows(asdict(field) for field in found)


def _by_variant(mattering: Sequence[Field]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for field in sorted(mattering, key=lambda each: not each.exercised):
        groups.setdefault(field.exercised_by or NOT_EXERCISED, []).append(field.name)
    return groups
