"""g. What a gate and a bisection take where their environments are built: wall time on two cores.

Each is asked twice, and the second time is told: the first builds what is missing. A first verdict
is that of a gate of one family.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.findings import ROOT, Finding

FAMILIES = (
    *("bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3", "glm", "gpt2"),
    *("gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "granite", "llama", "mistral", "mixtral"),
    *("mpt", "olmo", "olmo2", "opt", "phi", "phi3", "qwen2", "stablelm"),
)
MODES = ("hf_sdpa", "bridge", "bridge_compat")
DTYPES = ("exact", "float32")
SIDES = ("--baseline=transformers==5.9.0", "--candidate=transformers==5.23.0")
SEARCH = ("--package=transformers", "--good=4.49.0", "--bad=4.54.1", "--family=gpt_bigcode")


def measure() -> Iterator[Finding]:
    """Time all families, one of them, and a bisection."""
    cells = 2 * len(FAMILIES) * len(MODES) * len(DTYPES)
    yield Finding(
        bench="g",
        name=f"a gate of {len(FAMILIES)} families × {len(MODES)} modes × {len(DTYPES)} dtypes",
        value=_gate(FAMILIES),
        unit="seconds",
        at_most=90,
        note=f"{cells} cells, {SIDES[0].partition('=')[2]} → {SIDES[1].partition('=')[2]}",
    )
    yield Finding(bench="g", name="a first verdict", value=_gate(("gpt2",)), unit="seconds")
    yield Finding(
        bench="g",
        name="a bisection",
        value=_second_time("bisect", *SEARCH, written="bisect.json"),
        unit="seconds",
        note="transformers 4.49.0 to 4.54.1, gpt_bigcode",
    )


def _gate(families: tuple[str, ...]) -> float:
    asked = [
        *(f"--family={name}" for name in families),
        *(f"--mode={name}" for name in MODES),
        *(f"--dtype={name}" for name in DTYPES),
    ]
    only = ("--variant=default", "--probe=none", "--with=transformer-lens==4.3.0")
    return _second_time("gate", *SIDES, *only, *asked, written="gate.json")


def _second_time(command: str, *options: str, written: str) -> float:
    """Run a command of the harness twice; give the seconds of the second.

    Raises:
        RuntimeError: it did not write what it found.
    """
    program = str(Path(sys.executable).with_name("harness"))
    with tempfile.TemporaryDirectory() as folder:
        for again in ("first", "second"):
            out = Path(folder) / again
            started = time.perf_counter()
            asked = [program, command, *options, f"--out={out}"]
            done = subprocess.run(asked, cwd=ROOT, capture_output=True, check=False, text=True)
            seconds = time.perf_counter() - started
            if not (out / written).is_file():
                raise RuntimeError(done.stdout + done.stderr)
    return seconds
