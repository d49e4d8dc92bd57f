import os

import pytest

from harness.begun import begin, begun_in, check_alone, come_back, end, held, lose
from harness.errors import RunFolderError
from harness.record import finished_cells, read_cells, write_part
from harness.record.describing import SCHEMA_VERSION
from harness.record.files import write_json
from tests.hand_rows import plain_row

CELL = "gpt2-default.bridge.exact"


@pytest.fixture
def run(tmp_path):
    """Give a run in which one cell has begun."""
    write_json(tmp_path / "run.json", {"schema_version": SCHEMA_VERSION})
    begin(tmp_path, row(verdict="error"))
    return tmp_path


def row(**changes):
    return plain_row("cells", cell_id=CELL, **changes)


def verdict_in(run):
    (cell,) = read_cells(run).itertuples()
    return cell.verdict, cell.reason


def test_a_cell_that_has_begun_is_known_with_its_process_until_it_ends(run):
    assert begun_in(run) == {CELL: os.getpid()}
    end(run, CELL)
    assert begun_in(run) == {}


def test_a_cell_that_is_lost_is_an_error_with_its_reason_and_without_half_its_rows(run):
    write_part(run, "deltas", CELL, [plain_row("deltas", cell_id=CELL)])
    lose(run, CELL, "killed")
    assert verdict_in(run) == ("error", "killed")
    assert not list((run / "deltas").iterdir())


def test_a_cell_whose_rows_are_whole_is_not_lost(run):
    write_part(run, "cells", CELL, [row(verdict="pass", reason=None)])
    lose(run, CELL, "killed")
    assert verdict_in(run)[0] == "pass"


def test_a_cell_that_never_began_is_not_lost(run):
    end(run, CELL)
    lose(run, CELL, "killed")
    assert finished_cells(run) == frozenset()


@pytest.mark.parametrize("child_first", [True, False])
def test_a_cell_from_which_two_processes_came_back_is_an_error_whoever_was_first(run, child_first):
    def parent():
        write_part(run, "cells", CELL, [row(verdict="pass", reason=None)])

    if not child_first:
        parent()
    child = os.fork()
    if child == 0:
        come_back(run, row(verdict="error"), "forked")
    os.waitpid(child, 0)
    if child_first:
        parent()
        assert check_alone(run, row(verdict="error")) == "forked"
    assert verdict_in(run) == ("error", "forked")


def test_a_process_that_comes_back_when_its_cell_is_over_makes_it_an_error_still(run):
    write_part(run, "cells", CELL, [row(verdict="pass", reason=None)])
    end(run, CELL)
    child = os.fork()
    if child == 0:
        come_back(run, row(verdict="error"), "forked")
    os.waitpid(child, 0)
    assert verdict_in(run) == ("error", "forked")


def test_a_cell_from_which_one_process_came_back_is_left_as_it_is(run):
    assert not check_alone(run, row(verdict="error"))
    assert finished_cells(run) == frozenset()


def test_a_run_that_is_measured_is_measured_by_nobody_else(run):
    message = "is being measured by another process"
    with held(run), pytest.raises(RunFolderError, match=message), held(run):
        pass
    with held(run):
        pass


def test_what_an_earlier_session_had_begun_is_forgotten(run):
    with held(run):
        assert begun_in(run) == {}
