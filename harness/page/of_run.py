"""What the page of a run shows: its cells, their sites, and what is said of those not green."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.case import LOADING_MODES, PROBES
from harness.judge.controls import uncaught
from harness.judge.gate import AXES
from harness.judge.sides import records
from harness.page.packing import labels, numbers
from harness.page.sites import sites_of
from harness.record import (
    GREEN,
    RED,
    VERDICTS,
    asked_relation,
    read_cells,
    read_controls,
    read_deltas,
    read_positions,
    read_prompts,
    read_run,
    require,
)
from harness.report.marks import named_families
from harness.report.words import message_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TEXTS = ("verdict", "reason", "first_site", "first_prompt_id", "limitation", "tightest_relation")
_COUNTS = ("sites_compared", "sites_passed_through", "sites_missing", "n_prompts")
_NUMBERS = ("worst_rel_l2", "worst_error_ratio", "seconds")


def data_of_run(run: Path) -> dict[str, Any]:
    """Give all that the page of a run shows, as plain JSON values.

    Raises:
        RunFolderError: the folder is no run, or nothing of it was measured.
    """
    described, cells = read_run(run), read_cells(run).reset_index(drop=True)
    require(run, described, "run_id")
    deltas, prompts, controls = read_deltas(run), read_prompts(run), read_controls(run)
    told = cells[~cells.verdict.isin(GREEN | {"unavailable"}) | (cells.verdict == "known")]
    return {
        "kind": "run",
        "title": described["run_id"],
        "command": f"harness replay {quote(described['run_id'])}",
        "verdicts": list(VERDICTS),
        "red": sorted(RED),
        "modes": in_order(cells.loading_mode, LOADING_MODES),
        "probes": in_order(cells.probe.dropna(), PROBES),
        "relation": asked_relation(described),
        "about": about(described),
        "cells": columns_of(cells),
        "sites": sites_of(deltas, list(cells.cell_id.astype(str))),
        "messages": messages_of(told, deltas, prompts),
        "prompts": smallest_prompts(told, prompts),
        "positions": positions_of(read_positions(run)),
        "alarms": uncaught(cells, controls),
        "controls": len(controls),
    }


def in_order(found: pd.Series, known: Iterable[str]) -> list[str]:
    """Give the names that are there, those known first and in their order."""
    there, first = set(found.astype(str)), list(known)
    return [name for name in first if name in there] + sorted(there.difference(first))


def about(described: dict[str, Any]) -> list[tuple[str, str]]:
    """Give where a run's numbers come from, as pairs of name and words."""
    rows: list[tuple[str, str]] = []
    for name, value in described.items():
        if name == "packages":
            rows += [(package, str(version or "(absent)")) for package, version in value.items()]
        elif isinstance(value, dict):
            rows += [(name, ", ".join(f"{key} {inner}" for key, inner in value.items()))]
        else:
            rows += [(name, " ".join(map(str, value)) if isinstance(value, list) else str(value))]
    return rows


def columns_of(cells: pd.DataFrame) -> dict[str, Any]:
    """Give the columns of cells that the page shows."""
    texts = {name: labels(cells[name].astype(object)) for name in (*AXES, *_TEXTS)}
    return {
        **texts,
        "group": labels(named_families(cells)),
        **{name: cells[name].astype(int).tolist() for name in _COUNTS},
        **{name: numbers(cells[name].tolist()) for name in _NUMBERS},
    }


def messages_of(told: pd.DataFrame, deltas: pd.DataFrame, prompts: pd.DataFrame) -> dict[str, str]:
    """Give the message of each red cell."""
    red = told[told.verdict.isin(RED)]
    return {str(cell.cell_id): message_of(cell, deltas, prompts) for _, cell in red.iterrows()}


def smallest_prompts(told: pd.DataFrame, prompts: pd.DataFrame) -> dict[str, Any]:
    """Give of each cell that differs the smallest prompt that shows it."""
    pairs = set(zip(told.cell_id.astype(str), told.first_prompt_id, strict=True))
    asked = prompts[prompts.cell_id.isin(told.cell_id)]
    return {
        str(row["cell_id"]): {
            "origin": row["origin"],
            "tokens": [list(map(int, tokens)) for tokens in row["tokens"]],
            "mask": [list(map(int, real)) for real in row["attention_mask"]],
        }
        for row in records(asked)
        if (str(row["cell_id"]), row["prompt_id"]) in pairs
    }


def positions_of(positions: pd.DataFrame) -> dict[str, Any]:
    """Give of each cell the difference at each position of its smallest prompt."""
    return {
        str(cell_id): {
            "site": str(rows.site.iloc[0]),
            "row": rows.row.astype(int).tolist(),
            "position": rows.position.astype(int).tolist(),
            "token": [None if pd.isna(token) else int(token) for token in rows.token],
            "max_abs": numbers(rows.max_abs.tolist()),
            "rel_l2": numbers(rows.rel_l2.tolist()),
        }
        for cell_id, rows in positions.groupby("cell_id", observed=True)
    }
