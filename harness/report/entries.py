"""An architecture in a table's row: its reference's probes, and each loading mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.case import EXACT
from harness.report.markdown import link
from harness.report.marks import MARKS
from harness.report.standing import is_hollow, outcome_of, state_of, worst_of

if TYPE_CHECKING:
    from harness.report.standing import Standing

Row = Mapping[str, Any]

_SHORT: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}

LEGEND: Final = """\
- ✓: agrees; beside it, of true float64 (exact), the worst rel_l2.
- (✓): agrees, and the reference's own code computed every site, which is no evidence.
- ✓ in part: agrees in one dtype, refused in another.
- red: ✗ (differs, there first), error (it raised), stale (a limitation says that it differs, and
  it does not) or not finite (no site fails, yet the worst number is none), in any dtype.
- known: differs, and the linked page says why.
- –: refused, or not to be had; “Not measured” says why.
- sites: the fewest compared over the dtypes; how many of these the reference's own code computed
  (passed through); how many sites of the reference the port lacks (missing).
- reference probes: how many the reference keeps of those that it could be asked.
- measured: of a reference, some cell of it gave numbers; of a mode, it was not refused."""


def probes_entry(standing: Standing, place: str | None) -> str:
    """Give how many probes a reference keeps of those it could be asked, and the others' names."""
    worst = {probe: worst_of(rows) for probe, rows in standing.probed().items()}
    outcomes = {probe: outcome_of(row) for probe, row in worst.items()}
    asked = [probe for probe, outcome in outcomes.items() if outcome != "unavailable"]
    if not outcomes:
        return "not asked"
    if not asked:
        return "–"
    kept = sum(outcome == "pass" for outcome in outcomes.values())
    groups: dict[str, list[str]] = {}
    for probe, outcome in outcomes.items():
        if outcome != "pass":
            mark = {**MARKS, "unavailable": "–"}.get(outcome, outcome)
            named = _linked(probe, worst[probe], place) if outcome == "known" else probe
            groups.setdefault(mark, []).append(named)
    others = (f"{mark} {', '.join(names)}" for mark, names in groups.items())
    return "<br>".join((f"{kept}/{len(asked)}", *others))


def mode_entry(rows: Sequence[Row], place: str | None) -> str:
    """Give a mode's table entry: what came out in which dtypes, and how many sites that is."""
    if not rows:
        return "not asked"
    if state_of(rows) == "unavailable":
        return "–"
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(_mark(row, place), []).append(_dtype(row))
    lines = [f"{mark} {' '.join(dtypes)}" for mark, dtypes in groups.items()]
    return "<br>".join((*lines, *_sites(rows)))


def _mark(row: Row, place: str | None) -> str:
    outcome = outcome_of(row)
    if outcome == "fail":
        return f"✗ {row['first_site']}"
    if outcome == "known":
        return _linked("known", row, place)
    passed = "(✓)" if is_hollow(row) else "✓"
    return {"pass": passed, "unavailable": "–"}.get(outcome, outcome)


def _dtype(row: Row) -> str:
    dtype = str(row["dtype"])
    if dtype == EXACT and outcome_of(row) == "pass":
        return f"{dtype} ({row['worst_rel_l2']:.2g})"
    return _SHORT.get(dtype, dtype)


def _sites(rows: Sequence[Row]) -> list[str]:
    """Say how many sites were compared at least; nothing where no row has any."""
    ran = [row for row in rows if row["sites_compared"]]
    if not ran:
        return []
    words = [f"{min(row['sites_compared'] for row in ran)} sites"]
    for column, name in (("sites_passed_through", "passed through"), ("sites_missing", "missing")):
        if number := max(row[column] for row in ran):
            words.append(f"{number} {name}")
    return [", ".join(words)]


def _linked(name: str, row: Row, place: str | None) -> str:
    """Link a name to what is written of a limitation; more pages than one by their numbers."""
    targets = str(row["limitation"] or "").split()
    names = [name, *(str(number) for number in range(2, len(targets) + 1))]
    return (
        " ".join(
            link(each, target, place=place) for each, target in zip(names, targets, strict=False)
        )
        or name
    )
