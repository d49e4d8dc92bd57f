"""Measures a stored cell again from its rows alone, and says whether the numbers came again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.case import Case, Cell, Limitation
from harness.errors import RunFolderError
from harness.measure.question import prompt_of
from harness.measure.references import References
from harness.measure.run import CellResult, Plan, measure_cell
from harness.record import asked_relation, read_cells, read_deltas, read_prompts, read_run

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The cell measured again, and in words how it compares with what was stored."""

    result: CellResult
    same: bool
    words: str


def replay_cell(run: Path, cell_id: str) -> Replay:
    """Measure a cell of a run again, on its stored prompts.

    Raises:
        RunFolderError: the run has no such cell, or its checkpoint is not the same any more.
    """
    cells = read_cells(run)
    stored = cells[cells.cell_id == cell_id]
    if stored.empty:
        few = ", ".join(map(str, cells.cell_id.head(8)))
        message = f"{run} has no cell {cell_id!r}; it has {len(cells)}, such as {few}"
        raise RunFolderError(message)
    row = stored.iloc[0]
    cell = Cell(
        case=Case(
            family=row["family"],
            variant=row["variant"],
            checkpoint=row["checkpoint"],
            limitations=_left_out(str(row["missing_sites"])),
        ),
        loading_mode=row["loading_mode"],
        dtype=str(row["dtype"]),
        device=row["device"],
        probe=row["probe"] if isinstance(row["probe"], str) else None,
    )
    prompts = read_prompts(run, cell=cell_id)
    asked = tuple(map(prompt_of, prompts.to_dict("records")))
    relation = asked_relation(read_run(run))
    plan = Plan(prompts=asked or None, shrink_seconds=0.0, relation=relation)
    result = measure_cell(cell, run_id=run.name, references=References(), plan=plan)
    before, now = row["checkpoint_digest"], result.row["checkpoint_digest"]
    # A cell that did not get as far as its checkpoint has no digest; pandas reads NaN for it.
    if isinstance(before, str) and now is not None and now != before:
        message = (
            f"{cell_id}: the checkpoint is not the one that was measured\n"
            f"  found:   {now}\n  stored:  {before}"
        )
        raise RunFolderError(message)
    deltas = read_deltas(run, cell=cell_id) if asked else None
    return _compared(result, deltas)


def _left_out(missing: str) -> tuple[Limitation, ...]:
    """Leave out the sites that the stored cell could not have either."""
    if not missing:
        return ()
    return (
        Limitation(
            outcome="silent",
            reason="not to be had in the stored run either",
            link="",
            until="torch<0",  # never: the stored rows do not change
            sites=tuple(missing.split()),
        ),
    )


def _compared(result: CellResult, deltas: pd.DataFrame | None) -> Replay:
    """Say whether the same rows fail as did in the stored run, and how far any number moved."""
    again = {
        (delta["check"] or "", delta["prompt_id"], delta["site"]): delta for delta in result.deltas
    }
    failing = {key for key, delta in again.items() if delta["verdict"] == "fail"}
    stored_rows: set[tuple[str, str, str]] = set()
    stored_failing: set[tuple[str, str, str]] = set()
    drift = 0.0
    if deltas is not None:
        plain = deltas.assign(check=deltas.check.astype(object).fillna(""))
        stored = plain.set_index(["check", "prompt_id", "site"])
        stored_rows = set(stored.index)
        stored_failing = set(stored.index[stored.verdict == "fail"])
        moved = (
            abs(float(stored.rel_l2[key]) - float(np.float32(again[key]["rel_l2"])))
            for key in stored_rows & again.keys()
        )
        drift = max((step for step in moved if math.isfinite(step)), default=0.0)
    words = (
        f"stored: {len(stored_rows)} rows, {len(stored_failing)} failing; "
        f"again: {len(again)} rows, {len(failing)} failing; "
        f"largest change of a rel_l2: {drift:.2g}"
    )
    same = again.keys() == stored_rows and failing == stored_failing
    return Replay(result=result, same=same, words=words)
