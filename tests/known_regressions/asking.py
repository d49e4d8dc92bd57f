"""Asks a row of the table: a gate from good to bad, or for a relation one run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from harness.errors import HarnessError
from harness.gating import Plan, Source, Watcher, question_for, run_gate, source_of
from harness.judge.gate import GateCell
from harness.judge.sides import Side, case_key, read_side
from harness.models.sites import LOGITS
from harness.record import RED, read_deltas
from harness.versions.measuring import Subject, measure_in
from tests.known_regressions.judging import Outcome
from tests.known_regressions.rows import RELATION, Obtained, Row

DRAWN = Plan(out=Path()).drawn


def ask(row: Row, out: Path, watcher: Watcher) -> Outcome:
    """Ask a row below `out`; what could not be asked is a miss that says why."""
    if row.waits_for:
        return Outcome(row=row)
    started = time.monotonic()
    folder = out / row.id
    shutil.rmtree(folder, ignore_errors=True)
    cells: tuple[Obtained, ...] = ()
    failure = ""
    try:
        cells = (_of_run if row.question == RELATION else _of_gate)(row, folder, watcher)
    except HarnessError as error:
        failure = f"{type(error).__name__}: {error}"
    return Outcome(row=row, cells=cells, seconds=time.monotonic() - started, failure=failure)


def _source(spec: str, watcher: Watcher, *, prefer: Source | None = None) -> Source:
    return source_of(spec, prefer=prefer, given="", python=None, watcher=watcher)


def _of_gate(row: Row, folder: Path, watcher: Watcher) -> tuple[Obtained, ...]:
    good = _source(row.good, watcher)
    bad = _source(row.bad, watcher, prefer=good)
    found = run_gate((good, bad), row.selection, Plan(out=folder), watcher)
    sides = read_side(folder / "baseline"), read_side(folder / "candidate")
    return tuple(_of_cell(cell, sides) for cell in found.cells)


def _of_cell(cell: GateCell, sides: tuple[Side, Side]) -> Obtained:
    return Obtained(
        cell_id=cell.cell_id,
        family=cell.family,
        variant=cell.variant,
        mode=cell.loading_mode,
        dtype=cell.dtype,
        verdict=cell.verdict,
        worse=cell.worse,
        attribution=cell.attribution,
        nature=cell.nature,
        site=cell.first_site or "",
        changed=_changed(cell, *sides),
        drifts=None if cell.drift is None else (cell.drift, cell.drift_logits or 0.0),
        reason=cell.reason,
    )


def _changed(cell: GateCell, old: Side, new: Side) -> frozenset[str]:
    """Name the sites at which what moved has other bits: the port, or the reference with it."""
    before, after = (side.ports.get(cell.cell_id, {}) for side in (old, new))
    changed = {site for site in before if _differ(before[site], after.get(site))}
    if cell.attribution != "port" and cell.cell_id in old.cells:
        key = (case_key(old.cells[cell.cell_id]), cell.dtype, "reference")
        first, second = (side.references.get(key, {}) for side in (old, new))
        changed |= {at[0] for at in first if _differ(first[at], second.get(at))}
    return frozenset(changed)


def _differ(before: dict[str, object], after: dict[str, object] | None) -> bool:
    return after is None or before["digest"] != after["digest"]


def _of_run(row: Row, folder: Path, watcher: Watcher) -> tuple[Obtained, ...]:
    source = _source(row.good, watcher)
    if not isinstance(source, Subject):
        message = f"{row.id}: {row.good} is a folder; a relation is measured anew"
        raise HarnessError(message)
    question = question_for(row.selection, (source,), drawn=DRAWN, seed=0)
    question.write(folder / "question.json")
    run = folder / "run"
    total = len(question.cells)
    measure_in(
        source,
        folder / "question.json",
        run,
        progress=lambda done: watcher.measured("run", done, total),
    )
    deltas = read_deltas(run)
    logits = deltas[deltas.site == LOGITS].groupby("cell_id", observed=True)
    shifts = logits.raw_max_abs.max().to_dict()
    return tuple(
        Obtained(
            cell_id=cell["cell_id"],
            family=cell["family"],
            variant=cell["variant"],
            mode=cell["loading_mode"],
            dtype=cell["dtype"],
            verdict=cell["verdict"],
            worse=cell["verdict"] in RED,
            site=cell["first_site"] or "",
            shift=shifts.get(cell["cell_id"]),
            reason=cell["reason"] or "",
        )
        for cell in read_side(run).cells.values()
    )
