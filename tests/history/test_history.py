"""Runs of a folder as one history: what is mixed, what is left out, where a step was taken."""

import time

import pandas as pd
import pytest
from nights import page_data, ratios

import harness
from harness.errors import RunFolderError
from harness.history.finding import find_steps, series_of
from harness.history.reading import history_of
from harness.page.writing import write_page

RUNS, NIGHTS, ROWS = 60, 365, 20_000
SHARD = {"index": 1, "count": 4, "cells": 2, "of": 8, "whole": "d"}


def steps_in(folder):
    history = history_of(folder)
    frame = harness.read_history(folder, history=history)
    return find_steps(series_of(frame, len(history.nights)), history.nights)


def test_a_version_bump_with_a_fault_is_found_at_its_run_with_the_package_named(write_night, cells):
    for day in range(RUNS):
        values = ratios(20, seed=day)
        values[3] *= 50.0 if day >= 41 else 1.0
        bumped = {"transformers": "5.10.0" if day >= 41 else "5.9.0"}
        bumped |= {"numpy": f"2.{day // 10}"}
        write_night(day, cells(values), packages=bumped)
    (step,) = steps_in(write_night.folder).to_dict("records")
    assert (step["run_id"], step["cell_id"], step["kind"]) == (
        "night041",
        "family0-v3.bridge.bfloat16",
        "value",
    )
    assert step["changed"] == "transformers 5.9.0 → 5.10.0"
    assert step["worse"]
    assert step["after"] / step["before"] == pytest.approx(50.0, rel=0.3)


def test_drift_within_bfloat16s_noise_gives_no_step(write_night, cells):
    for day in range(RUNS):
        write_night(day, cells(ratios(500, seed=day)))
    assert steps_in(write_night.folder).empty


def test_a_verdict_that_changes_is_a_step_at_once(write_night, cells):
    for day in range(4):
        verdicts = ["pass", "fail" if day == 3 else "pass"]
        write_night(day, cells([1.0, 1.0], verdicts=verdicts), commit=str(day) * 40)
    (step,) = steps_in(write_night.folder).to_dict("records")
    told = (step["run_id"], step["kind"], step["before"], step["after"], step["worse"])
    assert told == ("night003", "verdict", "pass", "fail", True)
    assert step["changed"] == "commit 222222222 → 333333333"


def test_a_cell_that_is_gone_is_a_step_for_the_worse_and_one_that_came_is_not(write_night, cells):
    write_night(0, cells([1.0, 1.0, 1.0]))
    write_night(1, cells([1.0, 1.0]))
    write_night(2, cells([1.0, 1.0, 1.0, 1.0]))
    steps = steps_in(write_night.folder)
    assert [tuple(row) for row in steps[["place", "kind", "worse"]].to_numpy()] == [
        (2, "came", False),
        (2, "came", False),
        (1, "gone", True),
    ]
    assert set(steps.changed) == {"nothing that is recorded"}


def test_values_of_another_checkpoint_are_another_segment(write_night, cells):
    for day in range(20):
        values = [1.0, 1.0 if day < 10 else 1000.0]
        write_night(day, cells(values, digests=["d", "d" if day < 10 else "e"]))
    frame = harness.read_history(write_night.folder)
    assert frame.groupby("cell_id").segment.max().tolist() == [0, 1]
    (step,) = steps_in(write_night.folder).to_dict("records")
    assert (step["kind"], step["run_id"], step["worse"]) == ("checkpoint", "night010", False)


def test_a_cell_that_fails_from_the_night_of_another_checkpoint_on_is_told(write_night, cells):
    for day in range(4):
        late = day >= 2
        columns = cells([1.0], digests="e" if late else "d", verdicts=["fail" if late else "pass"])
        write_night(day, columns)
    (step,) = steps_in(write_night.folder).to_dict("records")
    assert (step["kind"], step["worse"], step["after"]) == ("verdict", True, "fail")


def test_a_cell_that_did_not_run_says_nothing_of_its_checkpoint(write_night, cells):
    for day, digest in enumerate(["d", None, "d"]):
        write_night(day, cells([1.0], digests=[digest]))
    assert harness.read_history(write_night.folder).segment.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"schema_version": 3}, "schema_version=3"),
        ({"selection": {"family": ["gpt2"]}}, "something else"),
        ({"plan": {"relation": "equal"}}, "something else"),
        ({"started": None}, "started=None, but should be str"),
        ({"started": "today"}, "when it began"),
        ({"shard": SHARD}, "a part of a run"),
        ({"merged": {"of": 8, "missing": ["shard 2/4 is missing"]}}, "a part of a run"),
    ],
)
def test_runs_that_cannot_be_compared_are_left_out_and_said(odd, reason, write_night, cells):
    write_night(0, cells([1.0]), name="odd", **odd)
    for day in (1, 2):
        write_night(day, cells([1.0]))
    frame = harness.read_history(write_night.folder)
    assert list(frame.run_id.cat.categories) == ["night001", "night002"]
    assert reason in frame.attrs["left_out"]["odd"]


def test_a_folder_without_runs_and_a_family_that_is_not_there_are_refused(
    write_night, cells, tmp_path
):
    with pytest.raises(RunFolderError, match="no run that can be read"):
        harness.read_history(tmp_path)
    write_night(0, cells([1.0]))
    with pytest.raises(RunFolderError, match=r"no run of .* has a cell of llama"):
        harness.read_history(write_night.folder, family="llama")


def test_versions_are_in_their_order(write_night, cells):
    for day, version in enumerate(["5.9.0", "5.10.0"]):
        write_night(day, cells([1.0]), packages={"transformers": version})
    frame = harness.read_history(write_night.folder)
    assert (frame[frame.transformers > "5.9.0"].run_id == "night001").all()
    assert isinstance(frame.started.dtype, pd.DatetimeTZDtype)


def test_a_year_of_nights_is_read_by_family_at_once_and_its_page_is_small(write_night, cells):
    for day in range(NIGHTS):
        values = ratios(ROWS, seed=day)
        values[:40] *= 100.0 if day >= 200 else 1.0
        write_night(day, cells(values, n_families=200))
    started = time.process_time()  # of other tests beside it, the clock would tell
    frame = harness.read_history(write_night.folder, family="family7")
    read = time.process_time()
    assert len(frame) == NIGHTS * ROWS / 200
    assert read - started < 2.0
    data = page_data(write_night.folder)
    file = write_night.folder.parent / "history.html"
    write_page(data, file)
    assert time.process_time() - read < 20.0
    assert file.stat().st_size < 15e6
    assert data["n_steps"] == 40
