"""The judge of `make chaos` is judged: it sees what is lost, wrong and wrongly green."""

import contextlib
import random

import pytest

from harness.errors import RunFolderError
from harness.record import read_deltas, write_json, write_part
from harness.record.columns import SCHEMA_VERSION
from tests.chaos.checking import Expected, Found, judged, rows_of
from tests.chaos.faults import harm_file
from tests.hand_rows import plain_row

ONE, OTHER = "gpt2-default.bridge.exact", "llama-default.bridge.exact"


@pytest.fixture
def write(tmp_path):
    """Give a function that writes a run of some cells with their verdicts."""

    def make(name, *, sites=("logits",), **verdicts):
        run = tmp_path / name
        write_json(run / "run.json", {"schema_version": SCHEMA_VERSION})
        for cell, verdict in zip((ONE, OTHER), verdicts.values(), strict=False):
            deltas = [plain_row("deltas", cell_id=cell, site=site, run_id=name) for site in sites]
            write_part(run, "deltas", cell, deltas)
            write_part(run, "cells", cell, [plain_row("cells", cell_id=cell, verdict=verdict)])
        return run

    return make


@pytest.fixture
def undisturbed(write):
    return rows_of(write("undisturbed", one="pass", other="known"))


def counts(found: Found):
    return found.lost, found.wrong, found.green


def test_a_run_as_nobody_disturbed_it_is_clean(write, undisturbed):
    run = write("a", one="pass", other="known")
    found = judged(run, undisturbed, before=undisturbed, code=0)
    assert counts(found) == (0, 0, 0)
    assert not found.bad


def test_a_finished_cell_that_is_gone_is_lost_and_wrong_and_not_green(write, undisturbed):
    found = judged(write("a", one="pass"), undisturbed, before=undisturbed, code=0)
    assert counts(found) == (1, 1, 1)
    assert found.bad


def test_a_finished_cell_with_other_rows_is_lost(write, undisturbed):
    run = write("a", sites=("embed",), one="pass", other="known")
    assert counts(judged(run, undisturbed, before=undisturbed, code=1)) == (2, 2, 0)


def test_a_cell_with_another_verdict_is_wrong(write, undisturbed):
    run = write("a", one="fail", other="known")
    assert counts(judged(run, undisturbed, before={}, code=1)) == (0, 1, 0)


@pytest.mark.parametrize(("code", "green"), [(0, 1), (1, 0)])
def test_a_cell_that_its_fault_broke_is_an_error_and_the_run_is_red(
    code, green, write, undisturbed
):
    run = write("a", one="error", other="known")
    expected = Expected(must_break=[ONE], red=True)
    found = judged(run, undisturbed, before={}, code=code, expected=expected)
    assert counts(found) == (0, 0, green)


def test_a_cell_that_its_fault_should_have_broken_is_wrong_if_it_passes(write, undisturbed):
    run = write("a", one="pass", other="known")
    expected = Expected(must_break=[ONE], red=True)
    assert counts(judged(run, undisturbed, before={}, code=0, expected=expected)) == (0, 1, 1)


def test_a_run_that_cannot_be_read_is_wrong_and_may_not_be_green(write, undisturbed):
    run = write("a", one="pass", other="known")
    (run / "deltas" / f"{ONE}.parquet").write_bytes(b"half")
    assert counts(judged(run, undisturbed, before={}, code=0)) == (0, 1, 1)


def test_no_run_at_all_is_not_green(undisturbed):
    assert counts(judged(None, undisturbed, before={}, code=0)) == (0, 2, 1)


@pytest.mark.parametrize("seed", range(150))
def test_a_part_that_was_harmed_is_never_read_as_other_numbers(seed, tmp_path):
    rng = random.Random(seed)
    write_json(tmp_path / "run.json", {"schema_version": SCHEMA_VERSION})
    numbers = [rng.random() for _ in range(50)]
    rows = [plain_row("deltas", cell_id=ONE, max_abs=n, rel_l2=n) for n in numbers]
    write_part(tmp_path, "deltas", ONE, rows)
    whole = read_deltas(tmp_path)
    harm_file(tmp_path / "deltas" / f"{ONE}.parquet", rng)
    with contextlib.suppress(RunFolderError):  # it says so; else the harm is where nobody reads
        assert read_deltas(tmp_path).equals(whole)
