"""What was expected against what was obtained, and the sums over the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.known_regressions.rows import Expected, Obtained, Row

ALLOWED_MISSES: Final = 1
"""Of the whole table; a part of it has none to spare. Source: 18 of 19 are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a row came to; `failure` says why it could not be asked, where it could not."""

    row: Row
    cells: tuple[Obtained, ...] = ()
    seconds: float = 0.0
    failure: str = ""

    @property
    def misses(self) -> tuple[str, ...]:
        """Say of each cell what is not as expected; nothing if all is."""
        if self.failure:
            return (f"not asked: {self.failure}",)
        if not self.cells:
            return ("no cell was asked",)
        return tuple(miss for cell in self.cells for miss in misses_of(cell, self.row.expected))

    @property
    def as_expected(self) -> bool:
        """Say whether everything is as expected."""
        return not self.misses

    @property
    def false_alarm(self) -> bool:
        """Say whether a row that is no fault was called worse."""
        return not self.row.fault and any(cell.worse for cell in self.cells)


def misses_of(cell: Obtained, expected: Sequence[Expected]) -> list[str]:
    """Say what of a cell is not as the first expectation that selects it says."""
    wanted = next((each for each in expected if each.selects(cell)), None)
    if wanted is None:
        return [f"{cell.cell_id}: nothing is expected of it; mend the row"]
    pairs = [("verdict", cell.verdict, wanted.verdict)]
    if wanted.attribution:
        pairs.append(("attribution", cell.attribution, (wanted.attribution,)))
    if wanted.nature:
        pairs.append(("nature", cell.nature, (wanted.nature,)))
    if wanted.site:
        pairs.append(("first_site", cell.site, (wanted.site_in(cell),)))
    found = [
        f"{cell.cell_id}: {name}={value}, but should be {' or '.join(allowed)}"
        + (f" ({cell.reason})" if cell.reason and name == "verdict" else "")
        for name, value, allowed in pairs
        if value not in allowed
    ]
    if wanted.shift_above and not (cell.shift or 0.0) > wanted.shift_above:
        found.append(
            f"{cell.cell_id}: raw shift={cell.shift}, but should be > {wanted.shift_above}"
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The sums over rows that were asked: faults found as expected, false alarms, misses."""

    faults: int
    faults_found: int
    others: int
    false_alarms: int
    misses: int
    whole: bool

    @property
    def good_enough(self) -> bool:
        """Say whether few enough are missed and nothing is a false alarm."""
        allowed = ALLOWED_MISSES if self.whole else 0
        return self.misses <= allowed and not self.false_alarms

    def __str__(self) -> str:
        """Print as `recall 11 of 11 faults; false alarms 0 of 3 …; as expected 14 of 14`."""
        asked = self.faults + self.others
        return (
            f"recall {self.faults_found} of {self.faults} faults; "
            f"false alarms {self.false_alarms} of {self.others} rows that are no faults; "
            f"as expected {asked - self.misses} of {asked}"
        )


def score_of(outcomes: Iterable[Outcome], *, whole: bool) -> Score:
    """Sum up the rows; `whole` says that these are all of the table."""
    asked = list(outcomes)
    faults = [outcome for outcome in asked if outcome.row.fault]
    return Score(
        faults=len(faults),
        faults_found=sum(outcome.as_expected for outcome in faults),
        others=len(asked) - len(faults),
        false_alarms=sum(outcome.false_alarm for outcome in asked),
        misses=sum(not outcome.as_expected for outcome in asked),
        whole=whole,
    )
