"""What a search looks for: the verdicts of the bad end, and whether a version shows them again.

A version is bad where a cell has the bad end's verdict at the bad end's first site. Where it is
worse in another way, that is another fault:

- at a later site, or smaller by far: the one looked for is not there, and the version is good;
- at an earlier site, or where the cell cannot be measured: the one looked for may hide behind it,
  and the version is skipped;
- at the same site under another verdict, as where the other side moved too: it is there, bad.

So a search finds where its own fault came in, and not the first of all changes on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.case import EXACT
from harness.judge.sides import case_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.gate import Gate, GateCell
    from harness.judge.sides import Side
    from harness.versions.search import Outcome

FEW: Final = 4
"""Cells that a search follows: enough for the faults of one release, few enough to be quick."""

MUCH_SMALLER: Final = 1e-3
"""The same fault against the same good side has nearly the same drift in every release; the
smallest factor between two faults at one site that was seen is 1e-7 (gpt_bigcode, 3e-8 to 4)."""

Places = dict[tuple[str, str], int]
"""The place in forward order of each site of each cell, by the cell's id and the site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a version says about the fault looked for, and in which words."""

    outcome: Outcome
    words: str


def symptoms_of(gate: Gate, *, few: int = FEW) -> tuple[GateCell, ...]:
    """Give the worse cells that a search follows: each kind of verdict once, exact ones first."""
    worse = sorted(gate.worse, key=lambda cell: cell.dtype != EXACT)
    kinds: dict[tuple[str, str | None], GateCell] = {}
    for cell in worse:
        kinds.setdefault((cell.verdict, cell.first_site), cell)
    chosen = list(kinds.values())
    chosen += [cell for cell in worse if cell not in chosen]
    return tuple(chosen[:few])


def places_in(side: Side, symptoms: Sequence[GateCell]) -> Places:
    """Give the forward order of the sites that a side knows, for each cell that is followed."""
    found: Places = {}
    for cell in symptoms:
        key = case_key({axis: getattr(cell, axis) for axis in _CASE})
        for (case, _, _), rows in side.references.items():
            if case == key:
                found |= {(cell.cell_id, site): row["place"] for (site, _), row in rows.items()}
        ports = side.ports.get(cell.cell_id, {})
        found |= {(cell.cell_id, site): row["place"] for site, row in ports.items()}
    return found


_CASE: Final = ("family", "variant", "checkpoint", "device")


def judgement_on(gate: Gate, symptoms: Sequence[GateCell], places: Places) -> Judgement:
    """Say whether a gate against the good side shows one of the symptoms again."""
    cells = {cell.cell_id: cell for cell in gate.cells}
    outcomes = {
        symptom.cell_id: _outcome(cells[symptom.cell_id], symptom, places) for symptom in symptoms
    }
    outcome: Outcome = "skipped"
    for wanted in ("bad", "good"):
        if wanted in outcomes.values():
            outcome = wanted
            break
    shown = [cells[name] for name, each in outcomes.items() if each == outcome]
    words = "; ".join(dict.fromkeys(map(words_for, shown)))
    others = [cells[name] for name, each in outcomes.items() if each != outcome]
    if others:
        rest = ", ".join(dict.fromkeys(map(words_for, others)))
        words += f"; {len(others)} of {len(symptoms)} cells differ: {rest}"
    if outcome != "bad" and any(cell.worse for cell in shown):
        words += "; worse, in another way than the bad end"
    return Judgement(outcome=outcome, words=words)


def _outcome(cell: GateCell, symptom: GateCell, places: Places) -> Outcome:
    if cell.verdict == "unmeasured":
        return "skipped"
    if not cell.worse:
        return "good"
    if cell.verdict == "broke" and cell.first_site is None and symptom.verdict != "broke":
        return "skipped"  # it was not measured there
    if symptom.first_site is None:
        return "bad" if cell.verdict == symptom.verdict else "good"
    if cell.first_site == symptom.first_site:
        smaller = (cell.drift or 0.0) < MUCH_SMALLER * (symptom.drift or 0.0)
        return "good" if smaller else "bad"
    here = places.get((cell.cell_id, cell.first_site or ""))
    there = places.get((cell.cell_id, symptom.first_site))
    return "good" if here is not None and there is not None and there < here else "skipped"


def words_for(cell: GateCell) -> str:
    """Say a verdict with its site and size, or its reason."""
    if cell.first_site is None:
        reason = cell.reason.splitlines()[0][:_SHOWN] if cell.reason and cell.worse else ""
        return f"{cell.verdict}: {reason}" if reason else cell.verdict
    size = "" if cell.drift is None else f" ({cell.drift:.2g})"
    return f"{cell.verdict} at {cell.first_site}{size}"


_SHOWN: Final = 160
