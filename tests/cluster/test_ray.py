"""Real cells on a real Ray: two nodes, one of which is killed midway.

Nothing here is skipped: where Ray cannot start, these tests fail.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

import harness
from harness.case import DEFAULT_DTYPES
from harness.judge.controls import uncaught
from harness.record import finished_cells

ROOT = Path(__file__).parents[2]
FAMILIES = ("gpt2", "llama", "mistral", "gemma")
MODES = ("hf_sdpa", "bridge", "bridge_compat", "bridge_compat_no_processing", "bridge_fold_ln")
ASKED = (
    f"--family={','.join(FAMILIES)}",
    f"--mode={','.join(MODES)}",
    "--variant=default",
    "--checkpoint=synthetic",
    "--probe=none",
    "--prompts=0",
)
CELLS = len(FAMILIES) * len(MODES) * len(DEFAULT_DTYPES)
OF_A_CASE = CELLS // len(FAMILIES)
QUIET = ("-q", "-p", "no:cacheprovider")
LONG = 600
"""Seconds after which a test here has hung: on two busy cores it has taken 330."""

SAME = ("rel_l2", "error_ratio", "max_abs", "raw_max_abs", "cosine", "verdict")


def command_of(out, *options):
    """Give the command that measures as `out/mine`."""
    cases = str(ROOT / "cases" / "test_ports_agree.py")
    here = (f"--out={out}", "--run=mine", *QUIET)
    return [sys.executable, "-m", "pytest", cases, *here, *options]


@contextlib.contextmanager
def started(command, cache, said, *, folder=ROOT):
    """Start a command in a folder, by default at the root of the repository; `said` gets output."""
    environment = {**os.environ, "HARNESS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    with (
        said.open("w") as output,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()  # only where the test has failed is there anything to kill


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cluster():
    """Give a cluster whose head measures nothing, and that has no other node yet."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def when_both_are_busy(rows, driver, said):
    """Wait until both nodes have a case that is not done, and one of these is begun; count cells.

    Two cases are left then, so that what is lost is soon made up for.
    """
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline and driver.poll() is None:
        done = Counter(name.partition(".")[0] for name in finished_cells(rows))
        whole = sum(number == OF_A_CASE for number in done.values())
        if whole == len(FAMILIES) - 2 and len(done) > whole:
            return done.total()
        time.sleep(0.1)
    raise AssertionError(said.read_text())


def deltas_of(run):
    """Give what was measured, by cell, prompt and site."""
    deltas = harness.read_deltas(run).astype({"cell_id": str, "prompt_id": str, "site": str})
    return deltas.set_index(["cell_id", "prompt_id", "site"]).sort_index()[list(SAME)].astype(str)


def test_a_node_is_killed_midway_and_every_cell_is_there_once_as_a_local_run_has_it(
    cluster, cache, tmp_path
):
    node, _ = (cluster.add_node(num_cpus=1) for _ in range(2))
    rows = tmp_path / "rows"
    to_ray = ("--executor=ray", f"--address={cluster.address}", f"--rows=file://{rows}")
    said, local_said = tmp_path / "said", tmp_path / "local_said"
    with started(command_of(tmp_path / "ray", *ASKED, *to_ray), cache, said) as driver:
        midway = when_both_are_busy(rows / "mine", driver, said)
        cluster.remove_node(node, allow_graceful=False)
        # One core is free now.
        with started(command_of(tmp_path / "local", *ASKED), cache, local_said) as local:
            assert driver.wait(timeout=LONG) == 0, said.read_text()
            assert local.wait(timeout=LONG) == 0, local_said.read_text()
    assert 0 < midway < CELLS == 60
    by_ray = tmp_path / "ray" / "mine"
    cells, expected = (harness.read_cells(run) for run in (by_ray, tmp_path / "local" / "mine"))
    assert Counter(cells.cell_id) == Counter(expected.cell_id)
    assert set(Counter(cells.cell_id).values()) == {1}
    assert len(cells) == CELLS
    verdicts = (dict(zip(found.cell_id, found.verdict, strict=True)) for found in (cells, expected))
    assert next(verdicts) == next(verdicts)
    assert deltas_of(by_ray).equals(deltas_of(tmp_path / "local" / "mine"))
    assert uncaught(cells, harness.read_controls(by_ray)) == []
    assert f"{CELLS} passed" in said.read_text()
    assert harness.read_run(by_ray)["executor"]["nodes"] == 3


DYING = """
    import os, signal
    import pytest
    from harness import Case

    @pytest.mark.harness(Case(family="gpt2"))
    def test_port_agrees(cell, check_cell):
        if cell.dtype == "exact" and cell.device == "cpu":
            os.kill(os.getpid(), signal.SIGSEGV)
        check_cell(cell)

    def test_of_another_kind(request):
        assert request.config.getoption("piece") is None
"""


def test_a_cell_that_segfaults_is_red_and_the_others_are_measured(cluster, cache, tmp_path):
    cluster.add_node(num_cpus=1)
    text = "\n".join(line[4:] for line in DYING.splitlines())
    (tmp_path / "test_dying.py").write_text(text)
    asked = (
        "--mode=hf_sdpa",
        "--dtype=exact,float32",
        "--device=cpu,mps",
        "--prompts=0",
        "-p",
        "no:cacheprovider",
    )
    to_ray = ("--executor=ray", f"--address={cluster.address}", "--run=mine")
    command = [sys.executable, "-m", "pytest", *QUIET, f"--rootdir={tmp_path}", *asked, *to_ray]
    with started(command, cache, tmp_path / "said", folder=tmp_path) as driver:
        code = driver.wait(timeout=LONG)
    said = (tmp_path / "said").read_text()
    assert code == 1, said
    assert "1 failed, 2 passed, 2 skipped" in said
    assert "killed by SIGSEGV" in said
    cells = harness.read_cells(tmp_path / "reports" / "runs" / "mine")
    assert sorted(cells.verdict) == ["error", "pass", "unavailable", "unavailable"]
    (reason,) = cells[cells.verdict == "error"].reason
    assert "killed by SIGSEGV (alone, too)" in reason
