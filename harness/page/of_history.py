"""What the page of a history shows: every step, its series, and how each family stands today."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.history.finding import AXES
from harness.history.reading import PACKAGES
from harness.page.packing import labels, numbers
from harness.record import RED, VERDICTS

if TYPE_CHECKING:
    import pandas as pd

    from harness.history.finding import Series
    from harness.history.reading import History

MOST_POINTS: Final = 400_000
"""Points of all curves of a page: more, and only cells that took a step have one."""

MOST_STEPS: Final = 2000
"""Steps that are shown; the newest come first."""


def data_of_history(
    title: str, history: History, series: Series, steps: pd.DataFrame
) -> dict[str, Any]:
    """Give all that the page of a history shows, as plain JSON values.

    Args:
        title: Which runs these are.
        history: Their nights, and what is left out.
        series: Their cells.
        steps: What was found in these.
    """
    nights = history.nights
    stepped = series.cells.cell_id.isin(steps.head(MOST_STEPS).cell_id).to_numpy()
    drawn = np.full(len(stepped), fill_value=True) if series.judged.size <= MOST_POINTS else stepped
    shown = steps.head(MOST_STEPS)
    return {
        "kind": "history",
        "title": f"{title}: {len(nights)} runs",
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
            **{name: labels(series.cells[name].astype(object)) for name in AXES},
            "group": labels(series.cells.family.astype(object)),
            "verdict": labels(
                None if code < 0 else series.names[code] for code in series.verdicts[:, -1]
            ),
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
