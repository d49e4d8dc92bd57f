"""Which cells of a run carry a control, and whether each was caught: one per family and port."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from harness.case import EXACT, SHRUNK, SYNTHETIC

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from harness.case import Cell

GROUP: Final = ("family", "port")
"""A run has a control for each of these that it has a green comparison of."""


def chosen(cells: Iterable[Cell], *, seed: str) -> frozenset[str]:
    """Give the ids of the cells that carry a control: of each family and port one, by the seed.

    Only comparisons of which nothing is known to differ: a control needs a green cell. One of a
    tiny checkpoint, where there is one: it says as much, in a moment; and of a dtype in which a
    small fault can be seen.
    """
    by_group: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.probe is None and not cell.limitations:
            by_group.setdefault((cell.case.family, cell.mode.port), []).append(cell)

    def order(cell: Cell) -> tuple[bool, bool, int]:
        large = cell.case.checkpoint not in {SYNTHETIC, SHRUNK}
        return large, cell.dtype not in {EXACT, "float32"}, place(cell.id, seed)

    return frozenset(min(group, key=order).id for group in by_group.values())


def uncaught(cells: pd.DataFrame, controls: pd.DataFrame) -> list[str]:
    """Say of each control that was not caught, and of what has none, that it proves nothing."""
    missed = (row for _, row in controls.iterrows() if not row.caught)
    told = [
        f"CONTROL NOT CAUGHT in {row.cell_id}: "
        f"{row.fault if isinstance(row.fault, str) else row.words}; what this run says of "
        f"{row.family} through {row.port} proves nothing"
        for row in missed
    ]
    lacking = without_control(cells, controls).drop_duplicates(list(GROUP))
    return told + [
        f"NO CONTROL of {row.family} through {row.port}: what this run says of it proves nothing"
        for _, row in lacking.iterrows()
    ]


def without_control(cells: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """Give the green comparisons of families and ports that have no control."""
    green = cells[cells.probe.isna() & (cells.verdict == "pass")]
    had = set(zip(controls.family, controls.port, strict=True))
    pairs = enumerate(zip(green.family, green.port, strict=True))
    return green.iloc[[row for row, pair in pairs if pair not in had]]


def place(name: str, seed: str) -> int:
    """Give a number by which a seed puts names in an order of its own."""
    return zlib.crc32(f"{seed} {name}".encode())
