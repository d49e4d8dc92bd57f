"""The steps of a history: which cells took one, from which run on, and what changed with it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from harness.history.steps import steps_of
from harness.record import RED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.history.reading import Night

Kind = Literal["verdict", "value", "gone", "came", "checkpoint"]

AXES: Final = ("cell_id", "family", "variant", "loading_mode", "dtype", "device", "probe")
COLUMNS: Final = (
    *AXES,
    *("place", "run_id", "started", "kind", "worse", "before", "after", "changed"),
)
_MEASURED: Final = frozenset({"pass", "fail", "known"})
_NOTHING: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A history as arrays [cell, run]: what is judged, verdicts and segments; -1: not measured."""

    cells: pd.DataFrame
    judged: np.ndarray
    verdicts: np.ndarray
    segments: np.ndarray
    names: Sequence[str]


def series_of(frame: pd.DataFrame, n_runs: int) -> Series:
    """Give the series of a history's rows, as `harness.read_history` gives them."""
    codes, first_rows = np.unique(frame.cell_id.cat.codes.to_numpy(), return_index=True)
    first = frame.iloc[first_rows].reset_index(drop=True)
    codes = np.searchsorted(codes, frame.cell_id.cat.codes.to_numpy())
    shape = (len(first), n_runs)
    place = frame.place.to_numpy()
    values, verdicts = np.full(shape, np.nan), np.full(shape, _NOTHING, dtype=np.int8)
    segments = np.full(shape, _NOTHING, dtype=np.int32)
    values[codes, place] = frame.value.to_numpy()
    verdicts[codes, place] = frame.verdict.cat.codes.to_numpy()
    segments[codes, place] = frame.segment.to_numpy()
    return Series(
        cells=first[list(AXES)],
        judged=values,
        verdicts=verdicts,
        segments=segments,
        names=list(frame.verdict.cat.categories),
    )


def find_steps(series: Series, nights: Sequence[Night]) -> pd.DataFrame:
    """Give a row per step, the newest first.

    `kind`: `verdict` where the verdict became another, `value` where what is judged moved and
    stayed (`harness.history.steps`), `gone` and `came` where a cell is measured no more or for the
    first time, `checkpoint` where its checkpoint became another, so that values before and after
    are not compared. `run_id` is the first run that is other; `changed` names the packages that
    differ from the run before, or the commit. `before` and `after` are verdicts, or medians of
    values. `worse` says that a person should look.
    """
    found = {(cell, run): told for cell, run, *told in _checkpoints(series)}
    found |= {(cell, run): told for cell, run, *told in _values(series)}
    # A verdict says more than a number, and a lost cell more than either.
    found |= {(cell, run): told for cell, run, *told in _verdicts(series)}
    found |= {(cell, run): told for cell, run, *told in _presence(series)}
    rows = [
        {
            **series.cells.iloc[cell].to_dict(),
            "place": run,
            "run_id": nights[run].run_id,
            "started": nights[run].started,
            **dict(zip(("kind", "worse", "before", "after"), told, strict=True)),
            "changed": changed(nights[run - 1], nights[run]),
        }
        for (cell, run), told in found.items()
    ]
    steps = pd.DataFrame(rows, columns=list(COLUMNS))
    return steps.sort_values(["place", "cell_id"], ascending=[False, True], ignore_index=True)


def changed(before: Night, after: Night) -> str:
    """Say which packages differ between two runs, or the commit where none does."""
    names = sorted(set(before.packages) | set(after.packages))
    pairs = [(name, before.packages.get(name), after.packages.get(name)) for name in names]
    moved = [
        f"{name} {old or '(absent)'} → {new or '(absent)'}"
        for name, old, new in pairs
        if old != new
    ]
    if moved:
        return ", ".join(moved)
    if before.commit != after.commit:
        return f"commit {before.commit[:9]} → {after.commit[:9]}"
    return "nothing that is recorded"


Step = tuple[int, int, Kind, bool, Any, Any]


def _values(series: Series) -> Iterator[Step]:
    """Find steps of values, in series that were measured in the same runs together."""
    together: dict[bytes, list[tuple[int, np.ndarray]]] = defaultdict(list)
    number = 0
    for cell, segments in enumerate(series.segments):
        for segment in np.unique(segments[segments != _NOTHING]):
            runs = np.flatnonzero((segments == segment) & ~np.isnan(series.judged[cell]))
            together[runs.tobytes()].append((cell, runs))
            number += 1
    for members in together.values():
        runs = members[0][1]
        rows = np.array([cell for cell, _ in members])
        values = series.judged[np.ix_(rows, runs)]
        for row, at in steps_of(values, n_series=number):
            before, after = np.median(values[row, :at]), np.median(values[row, at:])
            yield int(rows[row]), int(runs[at]), "value", bool(after > before), before, after


def _verdicts(series: Series) -> Iterator[Step]:
    for cell, run, before in _changes(series.verdicts):
        old, new = series.names[before], series.names[series.verdicts[cell, run]]
        yield (
            cell,
            run,
            "verdict",
            new in RED or (old in _MEASURED and new not in _MEASURED),
            old,
            new,
        )


def _presence(series: Series) -> Iterator[Step]:
    there = series.verdicts != _NOTHING
    for cell, run in zip(*np.nonzero(there[:, 1:] != there[:, :-1]), strict=True):
        came = bool(there[cell, run + 1])
        state = series.names[series.verdicts[cell, run + 1 if came else run]]
        if came:
            yield int(cell), int(run) + 1, "came", state in RED, "", state
        else:
            yield int(cell), int(run) + 1, "gone", state in _MEASURED, state, ""


def _checkpoints(series: Series) -> Iterator[Step]:
    for cell, run, _ in _changes(series.segments):
        yield cell, run, "checkpoint", False, "", ""


def _changes(codes: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Give cell, run and code before of each change from one run to the next that both have."""
    both = (codes[:, 1:] != _NOTHING) & (codes[:, :-1] != _NOTHING)
    for cell, run in zip(*np.nonzero(both & (codes[:, 1:] != codes[:, :-1])), strict=True):
        yield int(cell), int(run) + 1, int(codes[cell, run])
