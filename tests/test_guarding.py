"""Real runs in which a cell kills its process, hangs, fails outside `check_cell`, or is stopped."""

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.begun import held
from harness.measure.writing import open_run
from harness.record import finished_cells, read_cells

CASES = """
import pytest
from harness import Case

@pytest.mark.harness(Case(family="gpt2"))
def test_port_agrees(cell, check_cell):
    check_cell(cell)
"""
CONFTEST = """
import ctypes, os, time
import pytest

@pytest.fixture
def check_cell(cell, check_cell):
    {faults}
    return check_cell
"""
QUICK = ("--mode=hf_sdpa", "--prompts=0", "--probe=none")
FIRST, SECOND, THIRD = (
    f"gpt2-default.hf_sdpa.{dtype}" for dtype in ("exact", "float32", "bfloat16")
)
TIMEOUT = 60
"""Seconds: a cell here takes one on a machine at leisure."""


pytestmark = pytest.mark.usefixtures("one_cache")


@pytest.fixture
def start(tmp_path):
    """Give a function that starts a run whose cells do what is said, in a group of its own."""

    def begin(*options, command=("-m", "pytest", "-q", "-p", "no:cacheprovider"), **faults):
        lines = [f'if cell.dtype == "{dtype}": {what}' for dtype, what in faults.items()]
        text = CONFTEST.format(faults="\n    ".join(lines) or "pass")
        (tmp_path / "conftest.py").write_text(text)
        (tmp_path / "test_cases.py").write_text(CASES)
        return subprocess.Popen(
            [sys.executable, *command, *QUICK, *options],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return begin


def latest(folder):
    return (folder / "reports" / "runs" / "latest").resolve()


def verdicts(folder):
    cells = read_cells(latest(folder))
    return {row.cell_id: (row.verdict, row.reason) for row in cells.itertuples()}


def test_each_cell_that_breaks_its_process_is_an_error_and_the_others_finish(start, tmp_path):
    run = start("-n1", exact="ctypes.string_at(0)", float32="raise ValueError('planted')")
    said, _ = run.communicate(timeout=TIMEOUT * 3)
    found = verdicts(tmp_path)
    assert {cell: verdict for cell, (verdict, _) in found.items()} == {
        FIRST: "error",
        SECOND: "error",
        THIRD: "pass",
    }
    assert "killed by SIGSEGV; it was at File " in found[FIRST][1]
    assert "setup raised ValueError: planted" in found[SECOND][1]
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert f"{FIRST}: its process was killed by SIGSEGV" in said


@pytest.mark.parametrize("workers", [(), ("-n1",)])
def test_a_test_that_does_not_ask_leaves_no_cell_out_and_a_skipped_one_is_unavailable(
    workers, start, tmp_path
):
    unasked, skipped = "return lambda cell: None", "pytest.skip('no such machine')"
    run = start(*workers, exact=unasked, float32=skipped)
    said, _ = run.communicate(timeout=TIMEOUT * 3)
    why = "its test ended, and check_cell was not called with it: nothing was measured"
    found = verdicts(tmp_path)
    assert found[FIRST] == ("error", why)
    assert found[SECOND] == ("unavailable", "its test was skipped: no such machine")
    assert found[THIRD][0] == "pass"
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert f"{FIRST}: {why}" in said


def test_a_cell_that_does_not_end_is_an_error_that_says_where_and_the_others_finish(
    start, tmp_path
):
    # A signal ends C's sleep, and the interpreter is not given back meanwhile.
    faults = {"bfloat16": "[ctypes.PyDLL(None).sleep(3600) for _ in range(99)]"}
    run = start("-n1", "--cell-timeout=15", **faults)
    run.communicate(timeout=TIMEOUT * 3)
    found = verdicts(tmp_path)
    assert found[THIRD][0] == "error"
    assert found[THIRD][1].startswith("it did not end within --cell-timeout, 15 s; it was at File ")
    assert found[FIRST][0] == found[SECOND][0] == "pass"
    assert run.returncode == pytest.ExitCode.TESTS_FAILED


def test_without_workers_a_cell_that_does_not_end_ends_the_run_and_says_where(start, tmp_path):
    run = start("--cell-timeout=4", exact="ctypes.PyDLL(None).sleep(3600)")
    said, _ = run.communicate(timeout=TIMEOUT)
    assert run.returncode == 1
    assert "Timeout (0:00:04)!" in said
    assert 'conftest.py", line ' in said
    assert FIRST not in finished_cells(latest(tmp_path))


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
def test_ctrl_c_finishes_the_cell_at_hand_and_says_how_to_finish_the_rest(workers, start, tmp_path):
    begun = tmp_path / "begun"
    run = start(workers, exact=f"open({str(begun)!r}, 'w').close(); time.sleep(1)")
    interrupt_once(run, begun)
    said, _ = run.communicate(timeout=TIMEOUT)
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert finished_cells(latest(tmp_path)) == {FIRST}
    assert "Ctrl-C: the cells at hand are finished and written" in said
    assert f"NOT WHOLE; next: harness run --resume {latest(tmp_path)}" in said


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
def test_ctrl_c_twice_stops_at_once(workers, start, tmp_path):
    begun = tmp_path / "begun"
    run = start(workers, exact=f"open({str(begun)!r}, 'w').close(); time.sleep(600)")
    interrupt_once(run, begun)
    time.sleep(1)
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=TIMEOUT)
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert finished_cells(latest(tmp_path)) == frozenset()


def interrupt_once(run, begun):
    """Press Ctrl-C, as a terminal tells all processes of a run, once its first cell has begun."""
    deadline = time.monotonic() + TIMEOUT
    while not begun.exists():
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)


def test_a_run_into_a_folder_that_cannot_be_written_says_so_and_is_not_green(start, tmp_path):
    (tmp_path / "reports").write_text("a file, where a folder would be")
    run = start("-n0")
    said, _ = run.communicate(timeout=TIMEOUT)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "cannot be written" in said
    assert "next:" in said


def test_rows_that_cannot_be_written_stop_the_run_with_2_and_the_cell_is_not_finished(
    start, tmp_path
):
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))"
    run = start("-n1", "--run=mine", float32=limit)
    said, _ = run.communicate(timeout=TIMEOUT)
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert finished_cells(tmp_path / "reports/runs/mine") == {FIRST}
    assert "allow larger files (ulimit -f), then --resume" in said


@pytest.mark.parametrize("options", [(), ("-n1",), ("--executor=ray",)])
def test_a_run_that_is_being_measured_is_refused_to_a_second_session(options, start, tmp_path):
    run = tmp_path / "reports" / "runs" / "begun"
    plan = {"drawn": 0, "seed": 0, "shrink_seconds": 0.0}
    open_run(run, selection={"mode": ["hf_sdpa"]}, plan=plan)
    with held(run):
        second = start(*options, f"--resume={run}")
        said, _ = second.communicate(timeout=TIMEOUT)
    assert "is being measured by another process" in said
    assert second.returncode == pytest.ExitCode.USAGE_ERROR
    assert finished_cells(run) == frozenset()


def test_two_runs_into_one_folder_at_once_are_two_whole_runs(start, tmp_path):
    both = [start("-n1"), start("-n1")]
    for run in both:
        run.communicate(timeout=TIMEOUT * 2)
    runs = [file.parent for file in (tmp_path / "reports/runs").glob("[!l]*/run.json")]
    assert [run.returncode for run in both] == [0, 0]
    for run in runs:
        cells = read_cells(run)
        assert set(cells.cell_id) == {FIRST, SECOND, THIRD}
        assert set(cells.run_id) == {run.name}
    assert len(runs) == 2
