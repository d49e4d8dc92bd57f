"""A probe's cell between two sides: which of its checks are kept no more, or kept again.

A model is held against itself on each side, so that there is nothing to follow from one side to
the other but what it keeps; only token ids are compared as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.case import EXACT

if TYPE_CHECKING:
    from harness.judge.sides import Row, Side

_ASKED: Final = frozenset({"pass", "fail", "known", "stale"})
"""Verdicts of a cell whose probe ran to its end."""


def is_asked(row: Row | None) -> bool:
    """Say whether a cell's probe ran to its end."""
    return row is not None and row["verdict"] in _ASKED


def failing(row: Row) -> frozenset[str]:
    """Name the checks that a cell's model does not keep."""
    return frozenset(filter(None, (row["failing_checks"] or "").split("; ")))


def judged_probe(cell_id: str, old: Side, new: Side) -> dict[str, Any]:
    """Judge a probe's cell that both sides asked: verdict, reason, and what first broke."""
    before, after = old.cells[cell_id], new.cells[cell_id]
    broken, mended = failing(after) - failing(before), failing(before) - failing(after)
    texts = _changed_texts(cell_id, old, new)
    lost = before["sites_compared"] - after["sites_compared"]
    if broken:
        verdict, reason = "broke", f"not kept any more: {_listed(broken)}"
    elif texts:
        verdict, reason = "tokens_moved", f"other token ids for: {_listed(texts)}"
    elif lost > 0:
        verdict, reason = "vanished", f"{lost} sites are compared no more"
    elif mended:
        verdict, reason = "fixed", f"kept now: {_listed(mended)}"
    else:
        return {"verdict": "unchanged", "worse": False}
    attribution = "reference" if after["port"] == "transformers" else "port"
    found: Row = {"verdict": verdict, "reason": reason, "attribution": attribution}
    found |= {"worse": verdict != "fixed"}
    if broken:
        found |= {"first_site": after["first_site"], "prompt": new.smallest.get(cell_id)}
        found |= {"nature": "meaning" if _breaks_exactly(after, old, new) else "unknown"}
    return found


def _breaks_exactly(row: Row, old: Side, new: Side) -> bool:
    """Say whether the same is kept no more where nothing rounds: in the cell's exact twin."""
    twin = row["cell_id"].replace(f".{row['dtype']}.", f".{EXACT}.")
    if not is_asked(old.cells.get(twin)) or not is_asked(new.cells.get(twin)):
        return False
    return bool(failing(new.cells[twin]) - failing(old.cells[twin]))


def _changed_texts(cell_id: str, old: Side, new: Side) -> frozenset[str]:
    """Name the texts of the old side whose token ids differ, or that have none any more."""
    before, after = old.texts.get(cell_id, {}), new.texts.get(cell_id, {})
    return frozenset(text for text in before if before[text] != after.get(text))


def _listed(names: frozenset[str]) -> str:
    return "; ".join(sorted(names))
