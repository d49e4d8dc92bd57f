"""What a cluster costs: the same cells here and by Ray, and how many seconds per cell are between.

python -m tests.bench.ray

Both measure with two processes at once. By Ray, each case has a subprocess of its own, which
imports torch and the model libraries anew; that is most of what is paid.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from harness.record import finished_cells

ROOT = Path(__file__).parents[2]
PROCESSES = 2
FAMILIES = ("gpt2", "llama", "mistral", "gemma")
CASES = (
    f"--family={','.join(FAMILIES)}",
    "--variant=default",
    "--checkpoint=synthetic",
    "--probe=none",
    "--prompts=0",
)
ASKED = ("--mode=hf_sdpa,bridge,bridge_compat,bridge_compat_no_processing,bridge_fold_ln",)
HERE = (f"-n{PROCESSES}",)
HEAD = {"num_cpus": PROCESSES, "include_dashboard": False}


def by(cluster: Cluster) -> tuple[str, ...]:
    """Give the options that measure by a cluster."""
    return ("--executor=ray", f"--address={cluster.address}")


def overhead() -> dict[str, float | int]:
    """Measure the same cells locally and by Ray; give seconds of both, and per cell what is more.

    A first run makes the checkpoints, which both then find in the cache.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _seconds(Path(scratch), "first", *HERE, *CASES, "--mode=hf_sdpa", "--dtype=float32")
        local = _seconds(Path(scratch), "local", *HERE, *CASES, *ASKED)
        cluster = Cluster(initialize_head=True, head_node_args=HEAD)
        by_ray = _seconds(Path(scratch), "ray", *by(cluster), *CASES, *ASKED)
        cluster.shutdown()
        cells = len(finished_cells(Path(scratch) / "ray"))
        same = len(finished_cells(Path(scratch) / "local"))
    if not cells == same > 0:
        message = f"{cells} cells by Ray and {same} here: there is nothing to compare"
        raise RuntimeError(message)
    return {
        "cells": cells,
        "cases": len(FAMILIES),
        "processes": PROCESSES,
        "seconds_local": round(local, 1),
        "seconds_ray": round(by_ray, 1),
        "overhead_seconds_per_cell": round((by_ray - local) / cells, 2),
    }


def _seconds(out: Path, name: str, *options: str) -> float:
    """Give the wall time of one run, from the command to its end."""
    cases = str(ROOT / "cases" / "test_ports_agree.py")
    here = (f"--out={out}", f"--run={name}", "-q", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", cases, *here, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        message = f"the run {name} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        raise RuntimeError(message)
    return time.monotonic() - started


if __name__ == "__main__":
    sys.stdout.write(json.dumps(overhead(), indent=2) + "\n")
