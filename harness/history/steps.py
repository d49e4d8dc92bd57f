"""Where a cell's values took a step: the runs from which on they are others.

Values are compared as powers of ten: error ratios of clean cells scatter by a factor, and a fault
moves them by many. A step is a change of the mean, found by the optimal partition of a series with
a penalty for each step (Killick, Fearnhead and Eckley, Optimal detection of changepoints with a
linear computational cost, JASA 2012), in the implementation of `ruptures` (Truong, Oudre and
Vayatis, Selective review of offline change point detection methods, Signal Processing 2020).
Distances are measured in the series' own noise, by the differences from one run to the next, which
a step does not widen; nine of ten are smaller than what is taken, so that values which stand for a
while, or jump now and then between two, are not taken to be quieter than they are. The largest gain
of a normal series passes a penalty p by chance about n·exp(-p/2) times, so that p follows from how
often chance may be taken for a step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import ruptures as rpt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float

BY_CHANCE: Final = 1e-3
"""Steps of a whole history that chance may make."""

LEAST_RUNS: Final = 3
"""A step lasts so many runs: one odd night is no step, and is told by its verdict if it is red."""

_LEAST_NOISE: Final = 0.05
"""Decades: values that scatter less than by an eighth are taken to scatter so much."""

_FLOOR: Final = 1e-17
"""Below the rounding of float64 there is nothing to be told apart."""

_CEILING: Final = 1e9
"""Stands for what is not finite: it is far from all that is."""

_SHARE: Final = 0.9
_QUANTILE: Final = 1.6449
"""Of a normal distribution, 90 % lie within so many standard deviations."""

_FARTHEST: Final = 4.0
"""Standard deviations that count: three runs that far are a step, two odd nights are not."""

_HALF: Final = 0.5
"""Of what a step gains, so much at least is gained by a window of the nearest width inside it."""


def decades(values: Float[np.ndarray, "cell run"]) -> Float[np.ndarray, "cell run"]:
    """Give values as powers of ten; what is not finite is far away, and NaN stays where none is."""
    finite = np.where(np.isinf(values), _CEILING, values)
    found: Float[np.ndarray, "cell run"] = np.log10(np.clip(finite, _FLOOR, _CEILING))
    return found


def noise(series: Float[np.ndarray, "cell run"]) -> Float[np.ndarray, "cell"]:
    """Give how much each series scatters from run to run, in decades."""
    apart = np.quantile(np.abs(np.diff(series, axis=1)), _SHARE, axis=1)
    return np.maximum(apart / (_QUANTILE * math.sqrt(2.0)), _LEAST_NOISE)


def penalty(n_runs: int, n_series: int) -> float:
    """Give the penalty of a step by which chance makes BY_CHANCE steps in all series together."""
    return 2.0 * math.log(max(n_runs, 2) * max(n_series, 1) / BY_CHANCE)


def steps_of(
    values: Float[np.ndarray, "cell run"], *, n_series: int | None = None
) -> Iterator[tuple[int, int]]:
    """Give cell and run of each step, the run being the first that is other.

    Args:
        values: What is judged, of each cell in each run; all were measured.
        n_series: Of how many series these are a part.
    """
    n_cells, n_runs = values.shape
    if n_runs < 2 * LEAST_RUNS:
        return
    series = decades(values)
    scaled = (series - np.median(series, axis=1, keepdims=True)) / noise(series)[:, None]
    scaled = np.clip(scaled, -_FARTHEST, _FARTHEST)
    allowed = penalty(n_runs, n_series or n_cells)
    for cell in np.flatnonzero(_may_have_one(scaled, allowed)):
        search = rpt.KernelCPD(kernel="linear", min_size=LEAST_RUNS, jump=1)
        for run in search.fit(scaled[cell]).predict(pen=allowed)[:-1]:
            yield int(cell), int(run)


def _may_have_one(scaled: Float[np.ndarray, "cell run"], allowed: float) -> np.ndarray:
    """Say in which series some window differs enough from the rest: the others are not searched.

    Widths grow by √2, so that one lies within any step and fills most of it.
    """
    n_cells, n_runs = scaled.shape
    sums = np.concatenate([np.zeros((n_cells, 1)), np.cumsum(scaled, axis=1)], axis=1)
    total = sums[:, -1:]
    found = np.zeros(n_cells, dtype=bool)
    width = float(LEAST_RUNS)
    while (wide := int(width)) < n_runs:
        apart = sums[:, wide:] - sums[:, :-wide] - total * (wide / n_runs)
        gain = apart**2 * (n_runs / (wide * (n_runs - wide)))
        found |= gain.max(axis=1) > _HALF * allowed
        width *= math.sqrt(2.0)
    return found
