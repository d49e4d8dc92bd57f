"""One exchange between two real releases: what transformers 5.9.0 saves, 5.23.0 loads."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.record import read_cells

COMMAND = Path(sys.executable).with_name("harness")
CELLS = ("--variant", "default", "--mode", "hf_eager", "--dtype", "float32")
OLD, NEW = "5.9.0", "5.23.0"
FROM_OLD = f"saved by transformers {OLD}"


def checks_of(run):
    """Give the checks of each cell of a run, by the cell."""
    return {
        file.stem: set(pq.read_table(file)["check"].to_pylist())
        for file in (run / "deltas").iterdir()
    }


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """Give how the gate ended, and its folder."""
    out = tmp_path_factory.mktemp("exchange") / "gate"
    specs = ("--baseline", f"transformers=={OLD}", "--candidate", f"transformers=={NEW}")
    asked = ("--family", "gpt2,llama", *CELLS, "--probe", "save_load,none", "--prompts", "0")
    done = subprocess.run(
        [COMMAND, "gate", *specs, *asked, "--out", out],
        capture_output=True,
        text=True,
        check=False,
        cwd=out.parent,
    )
    assert (out / "gate.json").is_file(), done.stdout + done.stderr
    return done, out


def test_what_the_older_release_saves_the_newer_one_loads(gated):
    done, out = gated
    assert done.returncode == 0, done.stdout
    for run in ("baseline", "candidate"):
        assert set(read_cells(out / run).verdict) == {"pass"}
    for family in ("gpt2", "llama"):
        cell = f"{family}-default.hf_eager.float32.save_load"
        assert checks_of(out / "baseline")[cell] == {"saved and loaded"}
        assert checks_of(out / "candidate")[cell] == {"saved and loaded", FROM_OLD}


def test_the_exchange_leaves_no_weights_behind(gated):
    _, out = gated
    assert not (out / "exchange").exists()
