"""A cell from case to rows. Whatever happens on the way becomes its verdict."""

from __future__ import annotations

import math
import resource
import time
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.case import EXACT
from harness.errors import Unavailable
from harness.measure import agreement, probing
from harness.measure.outcome import CellResult, Outcome, Plan
from harness.measure.verdict import judged_error
from harness.models.ports import load_port
from harness.surroundings import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.case import Cell, Prompt
    from harness.measure.references import References
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner

__all__ = ["CellResult", "Plan", "lost_row", "measure_cell"]

Row = dict[str, Any]

_MISSING: Final = {"check": None, "power": None, "agrees_as": None}
"""Columns of a delta that only some have."""


def measure_cell(
    cell: Cell,
    *,
    run_id: str,
    references: References,
    plan: Plan,
    load: Callable[[Cell, Checkpoint], Runner] = load_port,
) -> CellResult:
    """Measure one cell. Whatever goes wrong becomes its verdict, never an exception.

    `load` gives the port; a test of the harness's own teeth gives one with a fault planted.
    """
    started = time.monotonic()
    outcome = Outcome()
    try:
        _check_device(cell)
        ask = agreement.measure if cell.probe is None else probing.measure
        verdict, reason = ask(cell, references, plan, outcome, load)
    except Unavailable as reason_found:
        verdict, reason = "unavailable", str(reason_found)
    except Exception as error:  # noqa: BLE001 - a cell that breaks must not end the run
        verdict, reason = judged_error(cell, error)
    axes = _axes(cell, run_id)
    row = {
        **axes,
        "verdict": verdict,
        "reason": reason if reason is None else without_secrets(reason),
        "limitation": " ".join(dict.fromkeys(item.link for item in cell.limitations)) or None,
        "seconds": time.monotonic() - started,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **outcome.counts(),
    }
    return CellResult(
        cell=cell,
        row=row,
        deltas=tuple({**axes, **_MISSING, **delta} for delta in outcome.deltas),
        prompts=tuple(
            _prompt_row(
                prompt, cell, run_id, fingerprinted=prompt.prompt_id in outcome.fingerprinted
            )
            for prompt in outcome.prompts
        ),
        fingerprints={
            name: tuple(_fingerprint_row(found, axes) for found in rows)
            for name, rows in outcome.fingerprints.items()
        },
        positions=tuple({"run_id": run_id, "cell_id": cell.id, **row} for row in outcome.positions),
    )


def lost_row(cell: Cell, run_id: str, *, reason: str, seconds: float) -> Row:
    """Give the row of a cell whose process died in its place: an error, of unknown size."""
    return {
        **_axes(cell, run_id),
        "verdict": "error",
        "reason": without_secrets(reason),
        "limitation": None,
        "seconds": seconds,
        "peak_rss_mb": math.nan,
        **Outcome().counts(),
    }


def _check_device(cell: Cell) -> None:
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there[cell.device]:
        message = f"this machine has no {cell.device} device that torch can use"
        raise Unavailable(message)
    if cell.device == "mps" and cell.dtype == EXACT:
        message = "mps has no float64, so that nothing can be exact on it"
        raise Unavailable(message)


def _axes(cell: Cell, run_id: str) -> Row:
    return {
        "run_id": run_id,
        "cell_id": cell.id,
        "family": cell.case.family,
        "variant": cell.case.variant,
        "checkpoint": cell.case.checkpoint,
        "port": cell.mode.port,
        "loading_mode": cell.loading_mode,
        "dtype": cell.dtype,
        "device": cell.device,
        "probe": cell.probe,
    }


def _prompt_row(prompt: Prompt, cell: Cell, run_id: str, *, fingerprinted: bool) -> Row:
    return {
        "run_id": run_id,
        "cell_id": cell.id,
        "prompt_id": prompt.prompt_id,
        "origin": prompt.origin,
        "fingerprinted": fingerprinted,
        "tokens": [list(row) for row in prompt.tokens],
        "attention_mask": [list(row) for row in prompt.attention_mask],
    }


def _fingerprint_row(found: Row, axes: Row) -> Row:
    names = ("run_id", "family", "variant", "checkpoint", "device")
    return {**{name: axes[name] for name in names}, **found}
