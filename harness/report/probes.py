"""Probes in words: the table of family × probe, and the message of one that is not kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from harness.case import PROBES
from harness.report.marks import MARKS, name_of, named_families, next_lines, tokens_of

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]

KEY: Final = (
    "numbers: cells whose model keeps what it owes. ✗: does not; k: known, a limitation says so; "
    "–: the port refuses, or owes nothing"
)
_MARKS: Final = {**MARKS, "known": "k"}  # thirteen columns are narrow
_SHORT: Final = {
    "repeatability": "repeat-\nability",
    "causality": "caus-\nality",
    "observer": "obser-\nver",
    "backends": "back-\nends",
    "gradients": "gradi-\nents",
    "cached_decoding": "cached\ndecoding",
    "save_load": "save\nload",
    "hook_semantics": "hook\nsemantics",
}


def probe_table(cells: pd.DataFrame) -> Table:
    """Give the table of family × probe, of cells that are probes."""
    asked = [probe for probe in PROBES if probe in set(cells.probe)]
    table = Table(title="family × probe", pad_edge=False, collapse_padding=True)
    table.add_column("family", no_wrap=True, max_width=20)
    for probe in asked:
        table.add_column(_SHORT.get(probe, probe), justify="right")
    for name, of_family in cells.groupby(named_families(cells)):
        table.add_row(
            str(name), *(_entry(of_family[of_family.probe == probe].verdict) for probe in asked)
        )
    return table


def _entry(verdicts: pd.Series) -> str:
    counted = verdicts.value_counts()
    parts = [str(counted["pass"])] if counted.get("pass", 0) else []
    for verdict, mark in _MARKS.items():
        if number := counted.get(verdict, 0):
            parts.append(f"{mark}{number}")
    if not parts and counted.get("unavailable", 0):
        return "–"
    return " ".join(parts)


def probe_message(cell: Row, deltas: Sequence[Row], prompts: Sequence[Row]) -> str:
    """Say in parts what a model does not keep: found, allowed, the prompt, next."""
    failing = [row for row in deltas if row["verdict"] == "fail"]
    first = next(
        row
        for row in failing
        if row["site"] == cell["first_site"] and row["prompt_id"] == cell["first_prompt_id"]
    )
    prompt = next(row for row in prompts if row["prompt_id"] == cell["first_prompt_id"])
    sites = {row["site"] for row in failing if row["check"] == first["check"]}
    exact = first["dtype"] == "exact" or not first["bound"]
    distance = (
        f"rel_l2 {first['rel_l2']:.2g}"
        if exact
        else f"{first['error_ratio']:.3g} times what rounding alone does there"
    )
    return "\n".join(
        (
            f"{first['site']}: {cell['probe']} is not kept [{name_of(cell)}]",
            f"  check:   {first['check']}; of all checks these fail: {cell['failing_checks']}",
            f"  found:   {distance}, max |Δ| {first['max_abs']:.2g} at [{first['worst_index']}]",
            f"  allowed: {first['bound']:g} (0: not one bit may differ)",
            f"  first:   the first of {len(sites)} failing sites in forward order",
            f"  prompt:  {tokens_of(prompt)}",
            f"  reason:  {cell['reason']}",
            f"  owed:    harness/measure/probes/{cell['probe']}.py says what and why",
            next_lines(cell),
        )
    )
