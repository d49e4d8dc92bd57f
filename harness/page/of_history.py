"""What the page of a history shows: every step, its series, and how each family stands today."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.history.finding import find_steps, series_of
from harness.history.reading import PACKAGES, read_history
from harness.page.packing import labels, numbers
from harness.record import RED, VERDICTS

if TYPE_CHECKING:
    from pathlib import Path

    from harness.history.reading import History

MOST_POINTS: Final = 400_000
"""Points of all curves of a page: more, and only cells that took a step have one."""

MOST_STEPS: Final = 2000
"""Steps that are shown; the newest come first."""

_AXES: Final = ("cell_id", "family", "variant", "loading_mode", "dtype", "device", "probe")


def data_of_history(folder: Path, history: History, *, family: str | None = None) -> dict[str, Any]:
    """Give all that the page of a history shows, as plain JSON values.

    Raises:
        RunFolderError: no run has a cell of that family.
    """
    frame = read_history(folder, family=family, history=history)
    nights = history.nights
    steps = find_steps(frame, nights)
    series = series_of(frame, len(nights))
    last = np.where(series.verdicts[:, -1] >= 0, series.verdicts[:, -1], -1)
    stepped = series.cells.cell_id.isin(steps.head(MOST_STEPS).cell_id).to_numpy()
    drawn = np.full(len(stepped), fill_value=True) if series.judged.size <= MOST_POINTS else stepped
    shown = steps.head(MOST_STEPS)
    return {
        "kind": "history",
        "title": f"{folder}: {len(nights)} runs",
        "verdicts": list(VERDICTS),
        "red": sorted(RED),
        "nights": [
            {
                "run_id": night.run_id,
                "started": night.started.isoformat(),
                **{name: night.packages.get(package, "") for name, package in PACKAGES.items()},
            }
            for night in nights
        ],
        "left_out": dict(history.left_out),
        "cells": {
            **{name: labels(series.cells[name].astype(object)) for name in _AXES},
            "group": labels(series.cells.family.astype(object)),
            "verdict": labels(None if code < 0 else series.names[code] for code in last),
        },
        "series": {
            str(series.cells.cell_id.iloc[row]): numbers(series.judged[row].tolist())
            for row in np.flatnonzero(drawn)
        },
        "n_steps": len(steps),
        "steps": {
            **{
                name: labels(shown[name].astype(object))
                for name in ("cell_id", "family", "run_id", "kind", "changed")
            },
            "place": shown.place.astype(int).tolist(),
            "worse": shown.worse.astype(int).tolist(),
            "before": [_plain(value) for value in shown.before],
            "after": [_plain(value) for value in shown.after],
        },
    }


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
