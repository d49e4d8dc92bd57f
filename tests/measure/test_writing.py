import dataclasses

import pytest
import torch

from harness.case import Case, Cell
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run, write_result
from harness.record import finished_cells, pack, read_run
from tests.hand_rows import plain_row


def open_it(run, *, selection=None, seed=0):
    open_run(run, selection=selection or {}, plan={"seed": seed})


@pytest.fixture
def result():
    """Give what comes of a cell that can be measured nowhere: no device of Apple's is exact."""
    cell = Cell(case=Case(family="gpt2"), loading_mode="bridge", dtype="exact", device="mps")
    return measure_cell(cell, run_id="a-run", references=References(), plan=Plan())


def test_the_latest_run_is_the_one_opened_last(tmp_path):
    for name in ("first", "second"):
        open_it(tmp_path / name)
        assert (tmp_path / "latest").resolve() == tmp_path / name


def test_a_run_that_another_worker_opened_is_left_as_it_is(tmp_path):
    open_it(tmp_path / "a-run", seed=1)
    open_it(tmp_path / "a-run", seed=2)
    assert read_run(tmp_path / "a-run")["plan"] == {"seed": 1}


def test_a_run_stores_what_was_asked_and_the_environment(tmp_path):
    open_it(tmp_path / "a-run", selection={"family": ("gpt2", "llama")})
    stored = read_run(tmp_path / "a-run")
    assert stored["selection"] == {"family": ["gpt2", "llama"]}
    assert (stored["run_id"], stored["packages"]["torch"]) == ("a-run", torch.__version__)
    assert {"python", "cpu", "cores", "commit", "started", "argv", "devices"} <= stored.keys()


def test_a_cell_whose_rows_cannot_be_written_does_not_count_as_finished(tmp_path, result):
    with pytest.raises(ValueError, match="unknown or absent columns"):
        write_result(tmp_path, dataclasses.replace(result, deltas=({"nonsense": 1},)))
    assert finished_cells(tmp_path) == frozenset()


def test_a_cell_whose_rows_are_written_counts_as_finished(tmp_path, result):
    write_result(tmp_path, result)
    assert finished_cells(tmp_path) == {"gpt2-default.bridge.exact.mps"}


def test_fingerprints_of_a_reference_that_are_packed_are_not_written_again(tmp_path, result):
    run, name = tmp_path / "a-run", "gpt2-default.exact.reference"
    open_it(run)
    rows = (plain_row("fingerprints", cell_id=None),)
    write_result(run, dataclasses.replace(result, fingerprints={name: rows}))
    pack(run)
    write_result(run, dataclasses.replace(result, fingerprints={name: rows}))
    assert not (run / "fingerprints" / f"{name}.parquet").exists()
