"""Shards of a real run, as two machines measure them, against the same run in one piece."""

import subprocess
import sys

import pytest
from hand_rows import unpack

from harness.record import read_cells, read_controls, read_run

CASES = """
import pytest
from harness import Case

@pytest.mark.harness(Case(family="gpt2"), Case(family="llama"))
def test_port_agrees(cell, check_cell):
    check_cell(cell)
"""
ASKED = ("--mode", "hf_sdpa", "--dtype", "exact,float32", "--prompts", "0")


def harness(folder, *arguments):
    command = [sys.executable, "-c", "from harness.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give a folder with the run in one piece, and in two shards."""
    folder = tmp_path_factory.mktemp("sharded")
    (folder / "cases").mkdir()
    (folder / "cases" / "test_ports.py").write_text(CASES)
    for name, asked in (("whole", ()), ("one", ("--shard=1/2",)), ("two", ("--shard=2/2",))):
        done = harness(folder, "run", *ASKED, *asked, "--out", f"runs/{name}")
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_shards_of_a_real_run_are_merged_and_gated_as_if_it_were_one(folder):
    done = harness(folder, "merge", "runs/one/latest", "runs/two/latest", "--out", "runs/all")
    assert done.returncode == 0, done.stderr
    assert "4 cells: 4 pass" in done.stdout
    assert "2 controls planted, 2 caught" in done.stdout
    sides = ("--baseline", "runs/whole/latest", "--candidate", "runs/all", "--out", "runs/gate")
    gated = harness(folder, "gate", *sides)
    assert (gated.returncode, "not worse: 4 unchanged" in gated.stdout) == (0, True), gated.stderr


def test_each_shard_has_a_case_and_a_control_of_its_own(folder):
    for name in ("one", "two"):
        run = folder / "runs" / name / "latest"
        assert len(set(read_cells(run).family)) == 1
        assert len(read_cells(run)) == 2 == read_run(run)["shard"]["cells"]
        assert len(read_controls(run)) == 1


def test_a_shard_is_missed_and_nothing_is_written(folder):
    done = harness(folder, "merge", "runs/one/latest", "--out", "runs/part")
    assert done.returncode == 2
    assert "not the whole run: shard 2/2 is missing" in done.stderr
    assert not (folder / "runs" / "part").exists()


def test_a_partial_merge_is_a_loss_against_the_whole(folder):
    done = harness(folder, "merge", "runs/one/latest", "--partial", "--out", "runs/some")
    assert (done.returncode, "PARTIAL: 2 of 4 cells" in done.stdout) == (0, True)
    sides = ("--baseline", "runs/whole/latest", "--candidate", "runs/some", "--out", "runs/lost")
    gated = harness(folder, "gate", *sides)
    assert (gated.returncode, "2 vanished" in gated.stdout) == (1, True), gated.stderr


def test_more_shards_than_cases_are_not_green(folder):
    done = harness(folder, "run", *ASKED, "--shard=3/3", "--out", "runs/none")
    assert (done.returncode, "fewer cases than shards" in done.stderr) == (2, True)


def test_a_shard_is_resumed_as_the_shard_that_it_is(folder):
    run = (folder / "runs" / "one" / "latest").resolve()
    unpack(run)
    next((run / "cells").glob("*exact.parquet")).unlink()
    done = harness(folder, "run", "--resume", run)
    assert (done.returncode, len(read_cells(run))) == (0, 2), done.stdout + done.stderr
    assert "not gated: a shard alone" in done.stdout


@pytest.mark.parametrize("words", ["3/2", "first"])
def test_what_is_no_shard_is_refused_before_anything_is_measured(folder, words):
    done = harness(folder, "run", "--shard", words)
    assert (done.returncode, "is no shard" in done.stderr) == (2, True)
