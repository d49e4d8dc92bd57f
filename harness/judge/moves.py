"""What moved in one cell between two sides, site by site: by how much, and whether it counts.

Meaning is judged by the oracle, the reference in true float64: where it moves by more than
`EXACT_BOUND` the reference computes something else. A port that agrees with its reference on both
sides went where the reference went; one that does not is followed by the sketch of its distance.
What is left is rounding: of the reference, whose error may not grow past the bound, or of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.bounds import EXACT_BOUND, bound_for, chance_factor, error_floor
from harness.case import EXACT
from harness.errors import RunFolderError
from harness.judge.sides import case_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.judge.sides import Row, Side

TINY: Final = 1e-300
"""Stands in for a norm of zero: whatever moves away from zero has moved infinitely far."""

_FLOAT32_EPS: Final = 2.0**-23
"""Sketches of a port's distance are kept in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """How far a side moved at a site, relative to its old norm; `rounds` if the oracle did not."""

    site: str
    place: int
    drift: float
    rounds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """All moves of a cell, each side's in forward order, and what changed at all."""

    reference: tuple[Move, ...]
    port: tuple[Move, ...]
    newly_failing: tuple[str, ...]
    was_wrong: bool
    is_wrong: bool
    lost: tuple[str, ...]
    changed_reference: tuple[str, ...]
    changed_port: tuple[str, ...]


def moves_of(cell: Row, old: Side, new: Side) -> Moves:
    """Follow a cell, given by its axes, from the old side to the new.

    Raises:
        RunFolderError: the sides were asked different questions, or lack a fingerprint.
    """
    cell_id = cell["cell_id"]
    before, after = old.ports[cell_id], new.ports[cell_id]
    _check_question(cell_id, before, after, old, new)
    oracle = _Pair(cell, old, new, oracle=True)
    own = _Pair(cell, old, new, oracle=False)
    common = [site for site in before if site in after]
    port = [
        move
        for site in common
        if not oracle.mask_moved(site)
        and (move := _port_move(cell, before[site], after[site], oracle, own)) is not None
    ]
    return Moves(
        reference=tuple(_reference_moves(cell, before, after, oracle)),
        port=tuple(port),
        newly_failing=tuple(
            site
            for site, row in after.items()  # one that the port has gained, too
            if row["failed"] and not (site in before and before[site]["failed"])
        ),
        was_wrong=any(row["failed"] for row in before.values()),
        is_wrong=any(row["failed"] for row in after.values()),
        lost=tuple(site for site in before if site not in after),
        changed_reference=own.changed(),
        changed_port=tuple(s for s in common if before[s]["digest"] != after[s]["digest"]),
    )


def drift_at(cell: Row, site: str, old: Side, new: Side) -> tuple[float, float]:
    """Give how far reference and port moved at a site that both sides have; 0 for what is not.

    Where the oracle stays, the reference's own rounding is shown, if both sides have kept it.
    """
    oracle = _Pair(cell, old, new, oracle=True)
    own = _Pair(cell, old, new, oracle=False)
    before, after = old.ports[cell["cell_id"]].get(site), new.ports[cell["cell_id"]].get(site)
    reference = oracle.drift(site, "equal") if oracle.has(site, "equal") else 0.0
    if reference <= EXACT_BOUND and own.has(site, "equal") and own.sketched(site):
        reference = max(reference, own.drift(site, "equal"))
    if before is None or after is None:
        return reference, 0.0
    return reference, _port_drift(before, after, oracle)


class _Pair:
    """The rows of a cell's reference, or of its oracle, on both sides."""

    def __init__(self, cell: Row, old: Side, new: Side, *, oracle: bool) -> None:
        case, dtype = case_key(cell), cell["dtype"]
        self.cell_id = cell["cell_id"]
        self.names = (old.name, new.name)
        self.rows: list[Mapping[tuple[str, str], Row]] = []
        for side in (old, new):
            found = side.references.get((case, dtype, "reference"), {})
            if oracle:
                shared = side.references.get((case, EXACT, "reference"), {})
                found = side.references.get((case, dtype, "oracle"), shared)
            self.rows.append(found)

    def has(self, site: str, relation: str) -> bool:
        return all((site, relation) in rows for rows in self.rows)

    def at(self, site: str, relation: str) -> tuple[Row, Row]:
        for rows, name in zip(self.rows, self.names, strict=True):
            if (site, relation) not in rows:
                message = (
                    f"{name} has no fingerprint of {site} ({relation}) [{self.cell_id}]; "
                    "it is incomplete: measure it again"
                )
                raise RunFolderError(message)
        return self.rows[0][site, relation], self.rows[1][site, relation]

    def drift(self, site: str, relation: str) -> float:
        """Give how far it moved, relative to the old norm; infinity where shapes differ."""
        old, new = self.at(site, relation)
        if old["digest"] == new["digest"]:
            return 0.0
        if old["n_values"] != new["n_values"] or old["nonfinite"] != new["nonfinite"]:
            return math.inf
        gap = math.dist(listed(old["sketch"]), listed(new["sketch"]))
        return gap / max(float(old["norm"]), TINY)

    def sketched(self, site: str) -> bool:
        """Say whether both sides have a sketch; a baseline keeps those of oracles only."""
        return all(row["sketch"] is not None for row in self.at(site, "equal"))

    def mask_moved(self, site: str) -> bool:
        """Say whether other scores are masked out: then pattern, not scores, can be compared."""
        if not site.endswith("attn_scores") or not self.has(site, "equal"):
            return False
        old, new = self.at(site, "equal")
        return bool(old["masked"] != new["masked"])

    def sites(self) -> list[Row]:
        """Give the old rows of the sites that both sides have, in forward order."""
        both = [row for key, row in self.rows[0].items() if key in self.rows[1]]
        return sorted((r for r in both if r["relation"] == "equal"), key=lambda r: r["place"])

    def changed(self) -> tuple[str, ...]:
        """Name the sites whose digest changed, in forward order."""
        return tuple(
            row["site"]
            for row in self.sites()
            if row["digest"] != self.rows[1][row["site"], "equal"]["digest"]
        )


def _reference_moves(
    cell: Row, before: Mapping[str, Row], after: Mapping[str, Row], oracle: _Pair
) -> list[Move]:
    """Give the sites at which the oracle moved, or the reference's own rounding grew too large.

    All sites of the reference are looked at, whether the port has them or not.
    """
    found = []
    for row in oracle.sites():
        site = row["site"]
        if oracle.mask_moved(site):
            continue
        drift = oracle.drift(site, "equal")
        if drift > EXACT_BOUND:
            found.append(Move(site=site, place=row["place"], drift=drift))
        elif site in before and site in after and cell["dtype"] != EXACT:
            errors = _errors(before[site], after[site])
            if errors[1] > _bound(cell, before[site]) * max(errors[0], error_floor(cell["dtype"])):
                found.append(Move(site=site, place=row["place"], drift=errors[1], rounds=True))
    return found


def _port_move(cell: Row, before: Row, after: Row, oracle: _Pair, own: _Pair) -> Move | None:
    """Give the port's move at a site, if it is one."""
    site, dtype = before["site"], cell["dtype"]
    drift = _port_drift(before, after, oracle)
    spoiled = [row["nonfinite"] for row in own.at(site, before["relation"])]
    # A row counts what is not finite on either side, so what the reference has is taken off.
    if before["nonfinite"] - spoiled[0] != after["nonfinite"] - spoiled[1]:
        return Move(site=site, place=before["place"], drift=math.inf)
    if spoiled[0] != spoiled[1] and (before["failed"] or after["failed"]):
        return None  # nothing was kept of the port where its reference is not finite
    allowed = EXACT_BOUND
    if before["failed"] or after["failed"]:
        old, _ = oracle.at(site, before["relation"])
        if dtype != EXACT:
            allowed = _bound(cell, before) * (sum(_errors(before, after)) + error_floor(dtype))
        away = max(math.hypot(*listed(row["difference_sketch"])) for row in (before, after))
        allowed = max(allowed, 4 * _FLOAT32_EPS * away / max(old["norm"], TINY))
    if drift <= allowed:
        return None
    return Move(site=site, place=before["place"], drift=drift)


def _port_drift(before: Row, after: Row, oracle: _Pair) -> float:
    """Give how far a port moved: the oracle's move, and the move of its distance from it."""
    site, relation = before["site"], before["relation"]
    if before["digest"] == after["digest"]:
        return 0.0
    if not before["failed"] and not after["failed"]:
        # It agrees with its reference on both sides: it went where the reference went.
        return oracle.drift(site, relation)
    if before["n_values"] != after["n_values"]:
        return math.inf
    old, new = oracle.at(site, relation)
    places = zip(
        listed(old["sketch"]),
        listed(new["sketch"]),
        _difference(before, old),
        _difference(after, old),
        strict=True,
    )
    gap = math.hypot(*((b + d) - (a + c) for a, b, c, d in places))
    return gap / max(float(old["norm"]), TINY)


def _difference(row: Row, like: Row) -> list[float]:
    return listed(row["difference_sketch"]) or [0.0] * len(like["sketch"])


def _bound(cell: Row, row: Row) -> float:
    refactored = "refactor" in cell["loading_mode"]
    return bound_for(cell["dtype"], refactored=refactored) * chance_factor(row["n_values"])


def _errors(before: Row, after: Row) -> tuple[float, float]:
    return number_of(before["reference_error"]), number_of(after["reference_error"])


def _check_question(
    cell_id: str, before: Mapping[str, Row], after: Mapping[str, Row], old: Side, new: Side
) -> None:
    asked = {row["question"] for rows in (before, after) for row in rows.values()}
    if len(asked) > 1:
        message = (
            f"{cell_id}: {old.name} and {new.name} were asked different questions: other "
            "weights, config or prompts\n"
            "  next:    measure both again with this release, or accept a new baseline"
        )
        raise RunFolderError(message)


def number_of(value: float | None) -> float:
    """Give a stored number of a port's row; NaN is read as missing, and is as wrong as can be."""
    return math.inf if value is None else value


def listed(values: Sequence[float] | None) -> list[float]:
    """Give a stored list as floats; an empty one where there is none."""
    return [] if values is None else [float(value) for value in values]
