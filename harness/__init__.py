"""Continuous regression tests for ports of language models.

    >>> import harness
    >>> harness.read_deltas("reports/runs/latest").groupby("site").rel_l2.max()

Everything is imported when it is first asked for: reading a run loads no model library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.case import Case, Cell, Limitation, Prompt
    from harness.history.reading import read_history
    from harness.record import (
        read_cells,
        read_controls,
        read_deltas,
        read_positions,
        read_prompts,
        read_run,
        read_versions,
    )
    from harness.report.gate_rows import read_gate

_WHERE = {
    "Case": "harness.case",
    "Cell": "harness.case",
    "Limitation": "harness.case",
    "Prompt": "harness.case",
    "read_cells": "harness.record",
    "read_controls": "harness.record",
    "read_deltas": "harness.record",
    "read_gate": "harness.report.gate_rows",
    "read_history": "harness.history.reading",
    "read_positions": "harness.record",
    "read_prompts": "harness.record",
    "read_run": "harness.record",
    "read_versions": "harness.record",
}

__all__ = [
    "Case",
    "Cell",
    "Limitation",
    "Prompt",
    "read_cells",
    "read_controls",
    "read_deltas",
    "read_gate",
    "read_history",
    "read_positions",
    "read_prompts",
    "read_run",
    "read_versions",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        message = f"module 'harness' has no attribute {name!r}; it has {', '.join(__all__)}"
        raise AttributeError(message)
    found: object = getattr(import_module(_WHERE[name]), name)
    return found
