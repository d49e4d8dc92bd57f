"""Where each architecture of a run stands: its rows by mode and probe, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.case import DTYPES, EXACT, LOADING_MODES, PROBES, mode_named
from harness.judge.sides import records
from harness.record import RED

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
Name = tuple[str, str]
"""The names that a cell has for an architecture: family (its model type) and variant."""

REFERENCE: Final = "hf_eager"
NOT_FINITE: Final = "not finite"
"""The outcome of a cell whose verdict is pass and whose worst number is none."""

HOLLOW: Final = "passed through"
"""The state of a port that agrees, and whose every site the reference's own code computed."""

_ORDER: Final = ("fail", "error", "stale", NOT_FINITE, "known", "unavailable", "pass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model type and a kind, with the class that transformers has for it."""

    kind: str
    class_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An architecture with its rows, of comparisons and of probes."""

    family: str
    variant: str
    architecture: Architecture
    rows: tuple[Row, ...]

    @property
    def kind(self) -> str:
        """Say how the architecture models text."""
        return self.architecture.kind

    @property
    def measured(self) -> bool:
        """Say whether the reference ran: some comparison or probe of it gave numbers."""
        return any(row["sites_compared"] for row in self.rows)

    @property
    def absent(self) -> bool:
        """Say whether it has no checkpoint that could be asked."""
        no_checkpoint = all(row["checkpoint_digest"] is None for row in self.rows)
        return no_checkpoint and outcomes_of(self.rows) == {"unavailable"}

    def compared(self, mode: str) -> tuple[Row, ...]:
        """Give the rows of a loading mode's comparisons, in the order of dtypes."""
        rows = (r for r in self.rows if r["probe"] is None and r["loading_mode"] == mode)
        return tuple(sorted(rows, key=lambda row: DTYPES.index(row["dtype"])))

    def probed(self) -> dict[str, tuple[Row, ...]]:
        """Give the rows of what the reference was asked of itself, by probe."""
        asked = [r for r in self.rows if r["probe"] is not None and r["loading_mode"] == REFERENCE]
        rows = {name: tuple(row for row in asked if row["probe"] == name) for name in PROBES}
        return {name: of_probe for name, of_probe in rows.items() if of_probe}


def standings(
    cells: pd.DataFrame, architectures: Mapping[Name, Architecture]
) -> tuple[Standing, ...]:
    """Give where each architecture stands that has rows, by model type and kind."""
    rows: dict[Name, list[Row]] = {}
    for row in records(cells):
        rows.setdefault((row["family"], row["variant"]), []).append(row)
    found = (
        Standing(
            family=name[0], variant=name[1], architecture=architectures[name], rows=tuple(of_name)
        )
        for name, of_name in rows.items()
    )
    return tuple(sorted(found, key=lambda each: (each.family, each.kind)))


def modes_in(found: Sequence[Standing]) -> list[str]:
    """Name the loading modes that were compared, transformers' own first."""
    there = {row["loading_mode"] for each in found for row in each.rows if row["probe"] is None}
    known = [mode for mode in LOADING_MODES if mode in there]
    modes = [*known, *sorted(there.difference(known))]
    return sorted(modes, key=lambda mode: mode_named(mode).port != "transformers")


def outcome_of(row: Row) -> str:
    """Give a row's verdict; a pass whose worst number is not finite is none."""
    if row["verdict"] != "pass":
        return str(row["verdict"])
    worst = row["worst_rel_l2" if row["dtype"] == EXACT else "worst_error_ratio"]
    return "pass" if worst is not None and math.isfinite(worst) else NOT_FINITE


def outcomes_of(rows: Sequence[Row]) -> set[str]:
    """Give what rows came to, each outcome once."""
    return set(map(outcome_of, rows))


def is_red(row: Row) -> bool:
    """Say whether a row is something that nobody has explained."""
    return outcome_of(row) in RED | {NOT_FINITE}


def worst_of(rows: Sequence[Row]) -> Row:
    """Give the row that is worst; a refusal is worse than a pass."""
    return min(rows, key=lambda row: _ORDER.index(outcome_of(row)))


def state_of(rows: Sequence[Row]) -> str:
    """Say what rows come to, as one of `pass`, `known`, `red` and what is in between.

    `in part`: some pass and the others are refused. `passed through`: all pass, and are no
    evidence. `unavailable`: all are refused. `not asked`: there is no row.
    """
    outcomes = outcomes_of(rows)
    if any(map(is_red, rows)):
        return "red"
    if "known" in outcomes:
        return "known"
    if len(outcomes) > 1:
        return "in part"
    if outcomes == {"pass"} and all(map(is_hollow, rows)):
        return HOLLOW
    return next(iter(outcomes), "not asked")


def is_hollow(row: Row) -> bool:
    """Say whether a comparison met no code of the port's own. A probe asks one model alone."""
    return row["probe"] is None and row["sites_passed_through"] == row["sites_compared"]
