"""Two sides in, one verdict per cell out: what moved, where first, and who moved it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.bounds import EXACT_BOUND
from harness.case import EXACT, Case, Cell, mode_named
from harness.errors import RunFolderError
from harness.judge.moves import TINY, Moves, drift_at, listed, moves_of, number_of
from harness.judge.probed import is_asked, judged_probe
from harness.judge.sides import case_id, case_key
from harness.record import RED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.judge.sides import Row, Side

VERDICTS: Final = (
    "unchanged",
    "rounding",
    "reference_moved",
    "port_moved",
    "both_moved",
    "broke",
    "fixed",
    "appeared",
    "vanished",
    "tokens_moved",
    "unmeasured",
)
WORSE: Final = frozenset(
    {"reference_moved", "port_moved", "both_moved", "broke", "vanished", "tokens_moved"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCell:
    """The verdict on one cell, old → new.

    `nature` is `meaning` or `rounding` where something moved; `moved_by` the packages that may
    have moved it. Drifts are relative to the old norm, at `first_site`; `drift_logits` at the
    logits. Error ratios are the largest over sites (in exact mode rel_l2 takes their place).
    """

    cell_id: str
    family: str
    variant: str
    checkpoint: str
    loading_mode: str
    dtype: str
    device: str
    verdict: str
    worse: bool
    probe: str | None = None
    reason: str = ""
    attribution: str = "none"
    nature: str = ""
    moved_by: tuple[str, ...] = ()
    first_site: str | None = None
    drift: float | None = None
    drift_reference: float | None = None
    drift_port: float | None = None
    drift_logits: float | None = None
    error_ratio_old: float | None = None
    error_ratio_new: float | None = None
    prompt: Row | None = None
    lost_sites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A package whose version differs between the sides; None where a side lacks it."""

    name: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        """Print as `transformers 5.9.0 → 5.23.0`."""
        return f"{self.name} {self.old or '(absent)'} → {self.new or '(absent)'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """All verdicts of a gate, and the packages that differ between its sides."""

    baseline: str
    candidate: str
    cells: tuple[GateCell, ...]
    packages: tuple[Change, ...] = ()

    @property
    def asked(self) -> bool:
        """Say whether anything could be compared: what is only new was held against nothing."""
        return any(
            cell.worse or cell.verdict not in {"unmeasured", "appeared"} for cell in self.cells
        )

    @property
    def worse(self) -> tuple[GateCell, ...]:
        """Give the cells that got worse."""
        return tuple(cell for cell in self.cells if cell.worse)

    @property
    def overall(self) -> str:
        """Say `worse`, `not worse`, or `not asked` where nothing could be compared."""
        if not self.asked:
            return "not asked"
        return "worse" if self.worse else "not worse"

    @property
    def exit_code(self) -> int:
        """Give 0 where nothing is worse, 1 where something is, 2 where nothing was compared."""
        return {"not worse": 0, "worse": 1, "not asked": 2}[self.overall]


def gate(old: Side, new: Side, cell_ids: Iterable[str]) -> Gate:
    """Judge cells, old → new.

    Raises:
        RunFolderError: the sides answer different questions: other checkpoints or prompts.
    """
    changes = changes_between(old, new)
    cells = tuple(judged(cell_id, old, new, changes) for cell_id in cell_ids)
    return Gate(baseline=old.name, candidate=new.name, cells=cells, packages=changes)


def changes_between(old: Side, new: Side) -> tuple[Change, ...]:
    """Give the packages whose versions differ between two sides."""
    names = sorted({*old.packages, *new.packages} - {"model-port-harness"})
    return tuple(
        Change(name=name, old=old.packages.get(name), new=new.packages.get(name))
        for name in names
        if old.packages.get(name) != new.packages.get(name)
    )


def judged(cell_id: str, old: Side, new: Side, changes: Sequence[Change] = ()) -> GateCell:
    """Judge one cell.

    Raises:
        RunFolderError: the sides answer different questions about it.
    """
    before, after = old.cells.get(cell_id), new.cells.get(cell_id)
    known = after or before
    if known is None:
        message = f"{cell_id}: neither {old.name} nor {new.name} has it; name a cell that one has"
        raise RunFolderError(message)
    axes = {name: known[name] for name in AXES}
    if axes["probe"] is not None:
        return _judged_probe(axes, old, new, changes)
    if before is None or after is None or cell_id not in old.ports or cell_id not in new.ports:
        there = (cell_id in old.ports, cell_id in new.ports)
        return GateCell(**axes, **_without_numbers(before, after, there, old, new))
    return GateCell(**axes, **_with_numbers(axes, old, new, changes))


AXES: Final = (
    "cell_id",
    "family",
    "variant",
    "checkpoint",
    "loading_mode",
    "dtype",
    "device",
    "probe",
)


def _judged_probe(axes: Row, old: Side, new: Side, changes: Sequence[Change]) -> GateCell:
    """Judge a probe's cell: from one side's checks to the other's."""
    cell_id = axes["cell_id"]
    before, after = old.cells.get(cell_id), new.cells.get(cell_id)
    if not is_asked(before) or not is_asked(after):
        there = (is_asked(before), is_asked(after))
        return GateCell(**axes, **_without_numbers(before, after, there, old, new))
    found = judged_probe(cell_id, old, new)
    if found.get("prompt"):
        found["prompt"] = _shown(found["prompt"])
    if "attribution" in found:
        found["moved_by"] = _movers(found["attribution"], axes["loading_mode"], changes)
    return GateCell(**axes, **found)


def _without_numbers(
    before: Row | None, after: Row | None, there: tuple[bool, bool], old: Side, new: Side
) -> dict[str, Any]:
    """Judge a cell that one side at least has not measured; `there` says which sides have."""
    was, is_now = there
    if after is None:
        verdict = "vanished" if was else "unmeasured"
        return {
            "verdict": verdict,
            "worse": was,
            "reason": f"{new.name} does not have it",
        }
    red = after["verdict"] in RED - {"stale"}  # a limitation that is not true any more is good news
    if before is None:
        return {
            "verdict": "appeared",
            "worse": red,
            "reason": after["reason"] or f"{old.name} does not have it",
        }
    if was:
        return {
            "verdict": "broke",
            "worse": True,
            "attribution": "port",
            "reason": after["reason"] or "it was not measured",
        }
    if is_now:
        return {
            "verdict": "appeared" if red or before["verdict"] == "unavailable" else "fixed",
            "worse": red,
            "reason": f"before: {before['reason']}",
        }
    return {"verdict": "unmeasured", "worse": False, "reason": after["reason"] or ""}


def _with_numbers(axes: Row, old: Side, new: Side, changes: Sequence[Change]) -> dict[str, Any]:
    """Judge a cell that both sides have measured."""
    moves = moves_of(axes, old, new)
    verdict, attribution = _who(moves, axes["loading_mode"])
    reason = ""
    if moves.lost:
        reason = f"{len(moves.lost)} sites are compared no more: {' '.join(moves.lost)}"
        verdict = verdict if verdict in WORSE else "vanished"
    site = _first_site(moves, axes, old)
    drifts = (None, None) if site is None else drift_at(axes, site, old, new)
    grown = [move.drift for move in moves.reference if move.site == site and move.rounds]
    if drifts[0] is not None and grown:
        drifts = (max(grown), drifts[1])
    logits = drift_at(axes, "logits", old, new)
    moved = attribution != "none"
    cell_id = axes["cell_id"]
    return {
        "verdict": verdict,
        "worse": verdict in WORSE,
        "reason": reason,
        "attribution": attribution,
        "nature": _nature(moves, axes, old, new) if moved else "",
        "moved_by": _movers(attribution, axes["loading_mode"], changes) if moved else (),
        "first_site": site,
        "drift": None if site is None else max(filter(None, drifts), default=0.0),
        "drift_reference": drifts[0],
        "drift_port": drifts[1],
        "drift_logits": max(logits),
        "error_ratio_old": _worst(axes, old.ports[cell_id]),
        "error_ratio_new": _worst(axes, new.ports[cell_id]),
        "prompt": None if site is None else _prompt(site, moves, axes, old, new),
        "lost_sites": moves.lost,
    }


def _who(moves: Moves, loading_mode: str) -> tuple[str, str]:
    """Give the verdict and the side that moved."""
    # What another path through the reference's own library does together with it is the library's.
    one_library = mode_named(loading_mode).port == "transformers" and not moves.newly_failing
    if not moves.reference and not moves.port:
        if moves.newly_failing:
            return "port_moved", "port"
        side = _side(bool(moves.changed_reference), bool(moves.changed_port), one=one_library)
        if moves.was_wrong and not moves.is_wrong:
            return "fixed", side
        return ("unchanged" if side == "none" else "rounding"), side
    side = _side(bool(moves.reference), bool(moves.port), one=one_library)
    # A reference that computes something else is for a person to accept, whoever agrees with it.
    # Nor is a port mended whose error is the same, and its reference's has grown.
    elsewhere = any(move.rounds or math.isfinite(move.drift) for move in moves.reference)
    if moves.was_wrong and not moves.is_wrong and not elsewhere:
        return "fixed", side
    return f"{side}_moved", side


def _side(reference: bool, port: bool, *, one: bool) -> str:  # noqa: FBT001 - a table of two bits
    if reference and port:
        return "reference" if one else "both"
    return "reference" if reference else "port" if port else "none"


def _first_site(moves: Moves, axes: Row, old: Side) -> str | None:
    """Name the first site that moved; else the first that fails now; else that changed at all."""
    first = min((*moves.reference, *moves.port), key=lambda move: move.place, default=None)
    if first is not None:
        return first.site
    if moves.newly_failing:
        return moves.newly_failing[0]
    places = {name: row["place"] for name, row in old.ports[axes["cell_id"]].items()}
    rows = old.references.get((case_key(axes), axes["dtype"], "reference"), {})
    places |= {site: row["place"] for (site, _), row in rows.items()}
    changed = {*moves.changed_reference, *moves.changed_port}
    return min(changed, key=lambda site: places[site], default=None)


def _nature(moves: Moves, axes: Row, old: Side, new: Side) -> str:
    """Say whether what moved is meaning or rounding."""
    if any(not move.rounds for move in moves.reference):
        return "meaning"
    if not moves.port and not moves.newly_failing:
        return "rounding"
    if axes["dtype"] == EXACT:
        return "meaning"
    # A port that leaves its bounds in a low dtype: its exact twin says what it is.
    case = Case(family=axes["family"], variant=axes["variant"], checkpoint=axes["checkpoint"])
    twin = Cell(case=case, loading_mode=axes["loading_mode"], dtype=EXACT, device=axes["device"]).id
    if twin in old.ports and twin in new.ports:
        exact = moves_of({**axes, "cell_id": twin, "dtype": EXACT}, old, new)
        return "meaning" if exact.port or exact.reference else "rounding"
    return "unknown"


def _prompt(site: str, moves: Moves, axes: Row, old: Side, new: Side) -> Row | None:
    """Give the smallest stored prompt that shows the first move."""
    prompts = new.prompts.get(case_id(axes)) or old.prompts.get(case_id(axes), ())
    if all(move.site != site for move in moves.reference):
        cell_id = axes["cell_id"]
        named = new.cells[cell_id]["first_prompt_id"]
        stored = next((row for row in prompts if row["prompt_id"] == named), None)
        found = new.smallest.get(cell_id, stored)
        return _shown(found) if found else None
    before, after = (
        side.references.get((case_key(axes), axes["dtype"], "oracle"))
        or side.references[case_key(axes), EXACT, "reference"]
        for side in (old, new)
    )
    key = (site, "equal")
    moved = [
        prompt
        for prompt, was, now, norm in zip(
            prompts,
            listed(before[key]["prompt_projections"]),
            listed(after[key]["prompt_projections"]),
            listed(before[key]["prompt_norms"]),
            strict=True,
        )
        if abs(was - now) > EXACT_BOUND * max(norm, TINY)
    ]
    smallest = min(moved, key=_size_of_prompt, default=None)
    return _shown(smallest) if smallest else None


def _size_of_prompt(row: Row) -> tuple[int, int]:
    tokens = row["tokens"]
    return (len(tokens) * len(tokens[0]), len(tokens))


def _shown(row: Row) -> Row:
    return {
        "prompt_id": row["prompt_id"],
        "origin": row["origin"],
        "tokens": [[int(token) for token in tokens] for tokens in row["tokens"]],
        "attention_mask": [[int(bit) for bit in bits] for bits in row["attention_mask"]],
    }


def _worst(axes: Row, rows: Mapping[str, Row]) -> float | None:
    column = "rel_l2" if axes["dtype"] == EXACT else "error_ratio"
    return max((number_of(row[column]) for row in rows.values()), default=None)


_PACKAGES: Final = {
    "bridge": "transformer-lens",
    "hooked": "transformer-lens",
    "transformers": "transformers",
}
_MAIN: Final = ("torch", "transformers", "transformer-lens")


def _movers(attribution: str, loading_mode: str, changes: Sequence[Change]) -> tuple[str, ...]:
    """Name the package whose code the side is, if it changed; else all that did."""
    own = "transformers"
    if attribution == "port":
        mode = mode_named(loading_mode)
        own = mode.name if mode.is_plugged else _PACKAGES[mode.port]
    for names in ((own,), _MAIN, tuple(change.name for change in changes)):
        if found := tuple(str(change) for change in changes if change.name in names):
            return found
    return ()
