"""Histories written by hand: runs of cells with values and verdicts, night after night."""

import datetime as dt

import numpy as np
import pyarrow as pa

from harness.history.finding import find_steps, series_of
from harness.history.reading import history_of, read_history
from harness.history.summaries import SCHEMA, write_summary
from harness.page.of_history import data_of_history
from harness.record import SCHEMA_VERSION, write_json

FIRST = dt.datetime(2026, 1, 1, 3, 17, tzinfo=dt.UTC)
VERSIONS = {"torch": "2.13.0", "transformers": "5.9.0", "transformer-lens": "4.3.0"}


def write_night(folder, day, columns, *, packages=None, commit="a" * 40, name=None, **described):
    """Write one run: its day, its cells' columns, and what differs."""
    run = folder / (name or f"night{day:03}")
    (run / "cells").mkdir(parents=True, exist_ok=True)
    started = (FIRST + dt.timedelta(days=day)).isoformat(timespec="seconds")
    known = {"schema_version": SCHEMA_VERSION, "started": started, "commit": commit}
    known |= {"packages": {**VERSIONS, **(packages or {})}, "selection": {}, "plan": {}}
    write_json(run / "run.json", {**known, **described})
    write_summary(run, pa.table(columns).select(SCHEMA.names))
    return run


def cells_of(values, *, verdicts=None, digests="d", dtype="bfloat16", n_families=1):
    """Give the columns of cells, of families in turn, by their values."""
    number = len(values)
    families = [f"family{i % n_families}" for i in range(number)]
    ids = [f"{family}-v{i}.bridge.{dtype}" for i, family in enumerate(families)]
    same = {"variant": "v", "checkpoint": "synthetic", "loading_mode": "bridge"}
    same |= {"dtype": dtype, "device": "cpu", "probe": None, "first_site": None}
    return {
        "cell_id": ids,
        "family": families,
        **{name: [value] * number for name, value in same.items()},
        "verdict": verdicts or ["pass"] * number,
        "checkpoint_digest": [digests] * number if isinstance(digests, str) else digests,
        "worst_rel_l2": np.asarray(values, dtype=float),
        "worst_error_ratio": np.asarray(values, dtype=float),
    }


def ratios(number, *, seed):
    """Give error ratios of clean bfloat16 cells: near 1, scattered by a factor."""
    return 10.0 ** np.random.default_rng(seed).normal(0.0, 0.1, number)


def page_data(folder):
    """Give what the page of a folder of runs shows."""
    history = history_of(folder)
    series = series_of(read_history(folder, history=history), len(history.nights))
    return data_of_history(str(folder), history, series, find_steps(series, history.nights))
