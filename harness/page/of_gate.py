"""What the page of a gate shows: who moved in each cell, meaning or rounding, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from harness.case import LOADING_MODES, PROBES
from harness.judge.gate import AXES, VERDICTS, WORSE
from harness.judge.moves import drift_at
from harness.judge.sides import read_side
from harness.page.of_run import in_order
from harness.page.packing import labels, number, numbers
from harness.report.gate_rows import gate_json
from harness.report.marks import named_families, spec_in_shell

if TYPE_CHECKING:
    from harness.judge.sides import Side

Row = dict[str, Any]

_TEXTS: Final = ("verdict", "reason", "attribution", "nature", "first_site")
_DRIFTS: Final = ("drift", "drift_reference", "drift_port", "drift_logits")
_QUIET: Final = frozenset({"unchanged", "unmeasured"})


def data_of_gate(folder: Path) -> dict[str, Any]:
    """Give all that the page of a gate shows, as plain JSON values.

    Raises:
        RunFolderError: the folder holds no gate.json that this release can read.
    """
    gate = gate_json(folder)
    rows: list[Row] = gate["cells"]
    cells = pd.DataFrame(rows, columns=list(rows[0]) if rows else [*AXES, *_TEXTS, *_DRIFTS])
    moved = [row for row in rows if row["verdict"] not in _QUIET]
    sides = {side: spec_in_shell(gate[side]) for side in ("baseline", "candidate")}
    spec = " ".join(f"--{side} {words}" for side, words in sides.items())
    return {
        "kind": "gate",
        "title": f"{gate['baseline']} → {gate['candidate']}",
        "overall": gate["overall"],
        "command": f"harness gate {spec}",
        "verdicts": list(VERDICTS),
        "red": sorted(WORSE),
        "counts": gate["counts"],
        "modes": in_order(cells.loading_mode, LOADING_MODES),
        "probes": in_order(cells.probe.dropna(), PROBES),
        "packages": gate["packages"],
        "cells": {
            **{name: labels(cells[name].astype(object)) for name in (*AXES, *_TEXTS)},
            "group": labels(named_families(cells)),
            "worse": [int(row["worse"]) for row in rows],
            "moved_by": labels(", ".join(row["moved_by"]) for row in rows),
            **{name: [_again(row[name]) for row in rows] for name in _DRIFTS},
            "error_old": [_again(row["error_ratio"]["old"]) for row in rows],
            "error_new": [_again(row["error_ratio"]["new"]) for row in rows],
        },
        "lost": {row["cell_id"]: row["lost_sites"] for row in moved if row["lost_sites"]},
        "prompts": {row["cell_id"]: _prompt(row["prompt"]) for row in moved if row["prompt"]},
        "moves": _moves(folder, gate, moved),
    }


def _again(value: float | str | None) -> float | str | None:
    return value if value is None or isinstance(value, str) else number(value)


def _prompt(prompt: Row) -> Row:
    ones = [[1] * len(row) for row in prompt["tokens"]]
    return {
        "origin": prompt["origin"],
        "tokens": prompt["tokens"],
        "mask": prompt.get("attention_mask", ones),
    }


def _moves(folder: Path, gate: Row, moved: list[Row]) -> dict[str, Any]:
    """Give how far reference and port moved at each site of each cell that moved.

    Nothing, where the rows of a side are not there any more.
    """
    old, new = _sides(folder, gate)
    if old is None or new is None:
        return {}
    return {
        # By the axes of its own row: gate.json may have been edited.
        row["cell_id"]: _by_site(old.cells[row["cell_id"]], old, new)
        for row in moved
        if row["cell_id"] in old.ports and row["cell_id"] in new.ports
    }


def _by_site(cell: Row, old: Side, new: Side) -> Row:
    before, after = old.ports[cell["cell_id"]], new.ports[cell["cell_id"]]
    sites = [site for site in before if site in after]
    drifts = [drift_at(cell, site, old, new) for site in sites]
    judged = "rel_l2" if cell["dtype"] == "exact" else "error_ratio"
    return {
        "site": sites,
        "reference": [number(reference) for reference, _ in drifts],
        "port": [number(port) for _, port in drifts],
        "old": numbers(before[site][judged] for site in sites),
        "new": numbers(after[site][judged] for site in sites),
    }


def _sides(folder: Path, gate: Row) -> tuple[Side | None, Side | None]:
    """Read the rows that were judged: measured ones lie in the gate's folder, or are the folder."""
    old = (folder / "baseline", Path(str(gate["baseline"])))
    new = (folder / "candidate", Path(str(gate["candidate"])), folder)
    places = [next(filter(_is_side, each), None) for each in (old, new)]
    before, after = (None if place is None else read_side(place) for place in places)
    return before, after


def _is_side(place: Path) -> bool:
    return any((place / name).is_file() for name in ("run.json", "baseline.json"))
