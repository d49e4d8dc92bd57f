"""A control: a run plants a small fault of its own, and is worth nothing if it does not see it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from harness.case import SHRUNK, SYNTHETIC
from harness.judge.controls import GROUP, place, without_control
from harness.measure.question import cell_of
from harness.measure.references import References, numerics_of
from harness.models.ports import load_port
from harness.record import read_controls, write_part
from harness.teeth.body import body_of
from harness.teeth.operators import faults_of
from harness.teeth.operators.reading import misread
from harness.teeth.scoring import Examiner, bank_plan

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from harness.case import Cell
    from harness.models.ports import Runner
    from harness.teeth.fault import Fault

Row = dict[str, Any]

SIZES: Final = {
    "exact": "(1 + 1e-06)",
    "float32": "(1 + 0.001)",
    "bfloat16": "(1 + 4)",
    "float16": "(1 + 4)",
}
"""How large a control is, by dtype: well above the bound, and far below a millionfold of it."""

PROMPTS: Final = ("batch",)
"""The prompts of a control: what is a millionth off everywhere shows on any."""

_TRIES: Final = 12


def plant_control(run: Path, cell: Cell, references: References, runner: Runner) -> None:
    """Plant a control in the port of a cell that was green, and write its row.

    The port is as it was behind that, and was loaded for that cell alone.
    """
    row = controlled(cell, references, runner, seed=f"{run.name} {cell.id}")
    write_part(run, "controls", cell.id, [{"run_id": run.name, **row}])


def plant_missing(run: Path, cells: pd.DataFrame) -> None:
    """Plant the controls of families and ports whose chosen cell was not green, in another one."""
    references = References()
    for _, group in without_control(cells, read_controls(run)).groupby(list(GROUP), observed=True):
        tiny = group[group.checkpoint.isin((SYNTHETIC, SHRUNK))]
        green = group if tiny.empty else tiny
        first = min(green.cell_id, key=lambda name: place(name, run.name))
        row = green[green.cell_id == first].iloc[0]
        cell = cell_of({**row.to_dict(), "probe": None})
        checkpoint = references.of(cell).checkpoint
        with numerics_of(cell.dtype):
            runner = load_port(cell, checkpoint)
        plant_control(run, cell, references, runner)


def controlled(cell: Cell, references: References, runner: Runner, *, seed: str) -> Row:
    """Plant one fault, drawn by the seed, in a green cell's port; say whether it is seen.

    Where the port does not read what the fault changes, another one is drawn. If none of a dozen
    moves a bit of what the port is said to give, that is not the port's, and nothing is caught.
    """
    plan = bank_plan(references.of(cell).checkpoint.config, PROMPTS)
    examiner = Examiner(cell, references, runner, plan)
    try:
        drawn = _small(runner, cell.dtype)
    except Exception as error:  # noqa: BLE001 - told in its row: the cell itself was measured
        return _row(cell, words=f"the bank has no fault for this model: {error!r}")
    random.Random(seed).shuffle(drawn)
    for fault in drawn[:_TRIES]:
        found = examiner.finding(fault)
        if found.result not in {"idle", "void"}:
            return _row(
                cell,
                fault=str(fault),
                expected=found.expected,
                found=found.found,
                caught=found.result in {"caught", "elsewhere"},
                words=found.words,
                seconds=found.seconds,
            )
    words = f"none of {len(drawn[:_TRIES])} faults moved a bit: what is read is not the port's"
    return _row(cell, words=words)


def _small(runner: Runner, dtype: str) -> list[Fault]:
    """Give the faults of a control's size; of a port that shows no modules, misreadings."""
    size = float(SIZES[dtype].removeprefix("(1 + ").removesuffix(")"))
    misreadings = [misread(site, size) for site in runner.sites]
    try:
        body = body_of(runner)
    except TypeError:
        return misreadings
    # Far from the first position a frequency a millionth off is much more than that.
    found = (fault for fault in faults_of(body) if fault.kind != "rotary" and fault.probe is None)
    return [fault for fault in found if SIZES[dtype] in fault.size] or misreadings


def _row(
    cell: Cell,
    *,
    words: str,
    fault: str | None = None,
    expected: str | None = None,
    found: str | None = None,
    caught: bool = False,
    seconds: float = 0.0,
) -> Row:
    return {
        "cell_id": cell.id,
        "family": cell.case.family,
        "port": cell.mode.port,
        "loading_mode": cell.loading_mode,
        "dtype": cell.dtype,
        "fault": fault,
        "expected_site": expected,
        "first_site": found,
        "caught": caught,
        "words": words,
        "seconds": seconds,
    }
