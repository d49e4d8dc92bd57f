"""A process that measures computes with one thread, in torch and in numpy's BLAS."""

import os
import subprocess
import sys

TOLD = """
import threadpoolctl, torch
from harness.threads import one_thread
{}
print(torch.get_num_threads(), *{{
    each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"
}})
"""


def threads_after(words):
    """Give the threads of torch and of BLAS in a fresh process that is allowed two of each."""
    two = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", TOLD.format(words)],
        env={**os.environ, **two},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.split()


def test_both_are_held_to_one():
    assert threads_after("one_thread()") == ["1", "1"]


def test_left_alone_there_are_more():
    assert threads_after("") == ["2", "2"]


def test_a_run_that_is_opened_holds_its_process(tmp_path):
    opened = (
        "from pathlib import Path; from harness.measure.writing import open_run;"
        f"open_run(Path({str(tmp_path / 'run')!r}), selection={{}}, plan={{}})"
    )
    assert threads_after(opened) == ["1", "1"]
