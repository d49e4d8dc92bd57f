"""What the controller says of cells that no worker told of, and of cases that could not be read."""

from types import SimpleNamespace

import pytest

from harness.watching import Watch

TEST = "cases/test_ports_agree.py::test_port_agrees[gpt2-default.hf_sdpa.exact]"
OK, FAILED, BROKEN = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.INTERRUPTED,
)


@pytest.fixture
def watch(tmp_path):
    """Give a watch over one worker that has collected one cell; it is not begun."""
    watch = Watch(tmp_path, 60.0)
    watch._workers = {"gw0": SimpleNamespace(pid=0)}
    watch._left = {TEST}
    return watch


def ended(watch, status=OK):
    session = SimpleNamespace(exitstatus=status)
    watch.pytest_sessionfinish(session)
    return session.exitstatus


def said(watch):
    lines = []
    watch.pytest_terminal_summary(SimpleNamespace(write_line=lines.append))
    return lines


def test_a_run_in_which_nobody_told_of_a_cell_is_not_green_and_says_how_many(watch):
    assert ended(watch) == FAILED
    assert said(watch)[0].startswith("NOT MEASURED, 1 cells: the run was stopped, or lost its")


def test_a_run_whose_cells_were_all_told_of_is_green_and_says_nothing(watch):
    watch.pytest_runtest_logreport(SimpleNamespace(nodeid=TEST))
    assert ended(watch) == OK
    assert said(watch) == []


@pytest.mark.parametrize(("failed", "status"), [(True, BROKEN), (False, OK)])
def test_cases_that_could_not_be_read_are_no_green_run(watch, failed, status):
    watch.pytest_runtest_logreport(SimpleNamespace(nodeid=TEST))
    watch.pytest_collectreport(SimpleNamespace(failed=failed))
    assert ended(watch) == status
