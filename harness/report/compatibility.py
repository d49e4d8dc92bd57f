"""A breadth run as a public page: which architecture agrees with what, and what was not measured.

Rows in, Markdown out. Nothing is left out in silence: each red or known cell has a line, and each
thing that could not be asked has its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.bounds import EXACT_BOUND
from harness.case import EXACT
from harness.report.entries import LEGEND, mode_entry, probes_entry
from harness.report.markdown import table
from harness.report.reasons import not_measured, what_differs
from harness.report.standing import (
    HOLLOW,
    Architecture,
    Name,
    Standing,
    modes_in,
    outcome_of,
    standings,
    state_of,
)

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]

KINDS: Final = ("causal", "seq2seq", "masked")
_PACKAGES: Final = {
    "torch": "torch",
    "transformers": "transformers",
    "transformer_lens": "transformer-lens",
}
_STATES: Final = {
    "pass": "✓",
    "known": "known",
    "red": "red",
    "in part": "✓ in part",
    HOLLOW: "(✓)",
}
_RARE: Final = frozenset({"in part", HOLLOW})
"""States that have a line only where something is in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page is of: how it was asked for, and where it will lie.

    `command` wrote it, `measured_by` measured the run. `place` is the page's folder in the
    repository, None outside of it. `narrowed` says in words what part of the profile was asked
    for; it is empty where that was all.
    """

    described: Mapping[str, Any]
    architectures: Mapping[Name, Architecture]
    command: str
    measured_by: str
    place: str | None
    narrowed: str


def markdown(page: Page, cells: pd.DataFrame) -> str:
    """Give the page of a run's cells.

    Args:
        page: What the page is of.
        cells: The run's cells, each of an architecture that the page knows.
    """
    found = standings(cells, page.architectures)
    lines = [*_heading(page, found), "", *_counts(page, found), ""]
    lines += [*_worst_green(found), "", LEGEND, ""]
    lines += [
        *_matrix(page, found),
        "",
        *not_measured(found, page.architectures),
        *what_differs(found, page.place),
    ]
    return "\n".join(lines)


def _heading(page: Page, found: Sequence[Standing]) -> list[str]:
    packages = page.described["packages"]
    versions = (f"{name} {packages.get(key) or '(none)'}" for name, key in _PACKAGES.items())
    written = (
        f"Written by `{page.command}`; do not edit it. The run is of "
        f"{page.described['started'][:10]}, measured by `{page.measured_by}`."
    )
    said = (
        f"**{', '.join(versions)}.** Each text architecture of transformers as a tiny checkpoint "
        "with random weights: the reference (eager attention) against its own probes, against "
        "transformers with fused attention (hf_sdpa), and against TransformerLens' bridge, as it "
        "is and in compatibility mode."
    )
    lines = ["# Compatibility", "", written, "", said]
    if page.narrowed:
        asked = f"{len(found)} of {len(page.architectures)} architectures"
        lines += ["", f"**This is a part only ({page.narrowed}): {asked}.**"]
    return lines


def _counts(page: Page, found: Sequence[Standing]) -> list[str]:
    """Give the table of counts, by kind and over all."""
    release = page.described["packages"]["transformers"]
    rows = {
        f"architectures of transformers {release}": [
            each.kind for each in page.architectures.values()
        ],
        "asked": [each.kind for each in found],
        "references measured": [each.kind for each in found if each.measured],
    }
    kept = [(each.kind, state_of(_asked_of_reference(each))) for each in found]
    rows |= _by_state("references' probes", kept)
    for mode in modes_in(found):
        states = [(each.kind, state_of(each.compared(mode))) for each in found]
        unasked = {"unavailable", "not asked"}
        rows[f"{mode} measured"] = [kind for kind, state in states if state not in unasked]
        rows |= _by_state(mode, states)
    counted = [(name, Counter(kinds)) for name, kinds in rows.items()]
    flipped = sorted({kind for _, count in counted for kind in count} - set(KINDS))
    more = ("off_default",) if flipped else ()  # of each kind, apart: it is no architecture more
    return table(
        ("", *KINDS, "all", *more),
        [
            (
                name,
                *(str(count[kind]) for kind in KINDS),
                str(sum(count[kind] for kind in KINDS)),
                *(str(sum(count[kind] for kind in flipped)) for _ in more),
            )
            for name, count in counted
        ],
    )


def _worst_green(found: Sequence[Standing]) -> list[str]:
    """Say per mode how far the worst of those that agree is off in true float64."""
    lines = []
    for mode in modes_in(found):
        rows = [row for each in found for row in each.compared(mode)]
        green = [row for row in rows if row["dtype"] == EXACT and outcome_of(row) == "pass"]
        if green:
            worst = max(green, key=lambda row: row["worst_rel_l2"])
            lines.append(
                f"- {mode}, true float64: of {len(green)} that agree the worst rel_l2 is "
                f"{worst['worst_rel_l2']:.2g} ({worst['family']}-{worst['variant']}); "
                f"{EXACT_BOUND:g} is allowed."
            )
    return lines


def _by_state(name: str, states: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Give the kinds of what is in each state."""
    there = {state for _, state in states}
    return {
        f"{name}: {mark}": [kind for kind, state in states if state == wanted]
        for wanted, mark in _STATES.items()
        if wanted in there or wanted not in _RARE
    }


def _asked_of_reference(standing: Standing) -> list[Row]:
    """Give the rows of probes that could be asked: what owes nothing breaks nothing."""
    rows = [row for of_probe in standing.probed().values() for row in of_probe]
    return [row for row in rows if outcome_of(row) != "unavailable"]


def _matrix(page: Page, found: Sequence[Standing]) -> list[str]:
    modes = modes_in(found)
    rows = [
        (
            each.family,
            each.kind,
            probes_entry(each, page.place),
            *(mode_entry(each.compared(mode), page.place) for mode in modes),
        )
        for each in found
    ]
    return table(("type", "kind", "reference probes", *modes), rows)
