"""What a run must be after a fault, beside a run that nobody disturbed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from harness.errors import RunFolderError
from harness.record import finished_cells, read_cells, read_deltas

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

Rows = dict[str, tuple[str, pd.DataFrame]]
"""By cell: its verdict, and its deltas without what names the run."""

BROKEN = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one run shows: cells lost, verdicts wrong, green or not, and in words."""

    lost: int = 0
    wrong: int = 0
    green: int = 0
    words: str = ""

    @property
    def bad(self) -> bool:
        """Say whether anything is not as it should be."""
        return bool(self.lost or self.wrong or self.green)


def rows_of(run: Path | None, cells: Collection[str] | None = None) -> Rows:
    """Give the rows of a run's finished cells, or of some of them."""
    if run is None or not finished_cells(run):
        return {}
    verdicts = read_cells(run).set_index("cell_id").verdict.astype(str)
    if not verdicts.index.is_unique:
        return {"twice": ("twice", pd.DataFrame())}
    deltas = read_deltas(run).drop(columns="run_id").astype({"cell_id": str})
    parts = dict(iter(deltas.groupby("cell_id")))
    wanted = verdicts.index if cells is None else verdicts.index.intersection(list(cells))
    return {
        cell: (verdicts[cell], parts.get(cell, deltas.iloc[:0]).reset_index(drop=True))
        for cell in wanted
    }


def same(one: tuple[str, pd.DataFrame], other: tuple[str, pd.DataFrame]) -> bool:
    """Say whether two cells have one verdict and the same rows."""
    try:
        pd.testing.assert_frame_equal(one[1], other[1], check_categorical=False, check_dtype=False)
    except AssertionError:
        return False
    return one[0] == other[0]


def lost_since(before: Rows, after: Rows) -> list[str]:
    """Name the cells whose rows are gone, or are others."""
    return [cell for cell in before if cell not in after or not same(before[cell], after[cell])]


def wrong_in(after: Rows, undisturbed: Rows, *, may_break: Collection[str]) -> list[str]:
    """Name the cells that are neither as undisturbed nor an error where one is due."""
    return [
        cell
        for cell in after.keys() | undisturbed.keys()
        if not (cell in after and cell in undisturbed and same(after[cell], undisturbed[cell]))
        and not (cell in may_break and cell in after and after[cell][0] == BROKEN)
    ]


def is_whole(after: Rows, undisturbed: Mapping[str, object]) -> bool:
    """Say whether each cell is there, and none is an error."""
    return after.keys() == undisturbed.keys() and all(
        verdict != BROKEN for verdict, _ in after.values()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a fault may do to a run: which cells it may or must break; whether it must be red."""

    may_break: Collection[str] = ()
    must_break: Collection[str] = ()
    red: bool = False


UNHARMED = Expected()


def judged(
    run: Path | None, undisturbed: Rows, *, before: Rows, code: int, expected: Expected = UNHARMED
) -> Found:
    """Judge a run after its fault and, where it was killed, after it was resumed."""
    try:
        after = rows_of(run)
    except RunFolderError as error:
        return Found(wrong=1, green=int(code == 0), words=str(error))
    must = expected.must_break
    lost = lost_since(before, after)
    wrong = wrong_in(after, undisturbed, may_break={*expected.may_break, *must})
    wrong += [cell for cell in must if after.get(cell, ("",))[0] != BROKEN]
    is_green = code == 0 and (expected.red or not is_whole(after, undisturbed))
    return Found(
        lost=len(lost),
        wrong=len(wrong),
        green=int(is_green),
        words=f"exit {code}; lost {lost}; wrong {wrong}",
    )
