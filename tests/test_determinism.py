"""The same commit, environment and seeds give the same bits, in whatever process."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, os, sys
from pathlib import Path

import torch

from harness.case import Case, Cell
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run

asked = torch.get_num_threads()
open_run(Path(sys.argv[1]), selection={}, plan={})
references, measured = References(), {}
for family, dtype in (("gpt2", "exact"), ("gpt2", "bfloat16"), ("mixtral", "float32")):
    cell = Cell(case=Case(family=family), loading_mode="hf_sdpa", dtype=dtype)
    plan = Plan(drawn=3, seed=7, shrink_seconds=0.0)
    result = measure_cell(cell, run_id="r", references=references, plan=plan)
    row = {key: each for key, each in result.row.items() if key not in {"seconds", "peak_rss_mb"}}
    measured[cell.id] = [row, result.deltas, result.prompts, result.fingerprints]
said = {"hash": hash("a word"), "asked": asked, "used": torch.get_num_threads()}
print(json.dumps([said, measured]))
"""


def measured_with(folder, *, hash_seed, threads):
    """Measure three cells in a fresh process that makes its checkpoints itself."""
    seen = {
        **os.environ,
        "HARNESS_CACHE": str(folder / "cache"),
        "PYTHONHASHSEED": str(hash_seed),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "run")],
        env=seen,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return [
        measured_with(tmp_path_factory.mktemp("run"), hash_seed=seed, threads=threads)
        for seed, threads in ((0, 1), (1, 2), (2, 1))
    ]


def test_the_processes_were_started_otherwise(measured):
    said = [each for each, _ in measured]
    assert len({each["hash"] for each in said}) == 3
    assert [each["asked"] for each in said] == [1, 2, 1]
    assert {each["used"] for each in said} == {1}


def test_another_process_hash_seed_and_number_of_threads_give_the_same_bits(measured):
    first, *others = [numbers for _, numbers in measured]
    assert [row["verdict"] for row, *_ in first.values()] == ["pass"] * 3
    for _, deltas, prompts, fingerprints in first.values():
        assert len(deltas) > 100
        assert len(prompts) > 5
        assert sum(map(len, fingerprints.values())) > 100
    for other in others:
        assert other == first
