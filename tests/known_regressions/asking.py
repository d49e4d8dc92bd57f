"""Asks a row of the table: a gate from good to bad, or for a relation one run."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from harness.errors import HarnessError
from harness.gating import Plan, Source, Watcher, question_for, run_gate, source_of
from harness.judge.gate import GateCell, gate
from harness.judge.sides import Side, case_key, read_side
from harness.measure.question import cell_of
from harness.models.sites import LOGITS
from harness.record import RED, read_deltas, write_json
from harness.selection import NONE
from harness.versions.measuring import Subject, measure_in
from tests.known_regressions.judging import Outcome
from tests.known_regressions.rows import RELATION, Obtained, Row

DRAWN = Plan(out=Path()).drawn
QUESTION = "question.json"  # as `run_gate` calls it
RUN = "run"
SECONDS = "seconds.json"


def ask(row: Row, out: Path, watcher: Watcher) -> Outcome:
    """Measure a row below `out` and judge it; what could not be asked is a miss that says why."""
    started = time.monotonic()
    folder = out / row.id
    shutil.rmtree(folder, ignore_errors=True)
    try:
        (_run if row.question == RELATION else _gate)(row, folder, watcher)
    except HarnessError as error:
        seconds = time.monotonic() - started
        return Outcome(row=row, seconds=seconds, failure=f"{type(error).__name__}: {error}")
    write_json(folder / SECONDS, time.monotonic() - started)
    return judge(row, out)


def judge(row: Row, out: Path) -> Outcome:
    """Judge what was measured of a row below `out`, be it today or a year ago."""
    folder = out / row.id
    try:
        cells = (_of_run if row.question == RELATION else _of_gate)(folder)
        seconds = json.loads((folder / SECONDS).read_text())
    except (HarnessError, OSError) as error:
        return Outcome(row=row, failure=f"{type(error).__name__}: {error}")
    return Outcome(row=row, cells=cells, seconds=seconds)


def _source(spec: str, watcher: Watcher, *, prefer: Source | None = None) -> Source:
    return source_of(spec, prefer=prefer, given="", python=None, watcher=watcher)


def _gate(row: Row, folder: Path, watcher: Watcher) -> None:
    good = _source(row.good, watcher)
    bad = _source(row.bad, watcher, prefer=good)
    run_gate((good, bad), row.selection, Plan(out=folder), watcher)


def _run(row: Row, folder: Path, watcher: Watcher) -> None:
    source = _source(row.good, watcher)
    if not isinstance(source, Subject):
        message = f"{row.id}: {row.good} is a folder; a relation is measured anew"
        raise HarnessError(message)
    question = question_for(row.selection, (source,), drawn=DRAWN, seed=0)
    question.write(folder / QUESTION)
    total = len(question.cells)
    measure_in(
        source,
        folder / QUESTION,
        folder / RUN,
        progress=lambda done: watcher.measured(RUN, done, total),
    )


def _of_gate(folder: Path) -> tuple[Obtained, ...]:
    sides = read_side(folder / "baseline"), read_side(folder / "candidate")
    asked = json.loads((folder / QUESTION).read_text())["cells"]
    found = gate(*sides, [cell_of(row).id for row in asked])
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
        probe=cell.probe or NONE,
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


def _of_run(folder: Path) -> tuple[Obtained, ...]:
    run = folder / RUN
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
