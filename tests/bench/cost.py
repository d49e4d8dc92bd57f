"""What a large run costs, from cells of SmolLM2 measured here: core hours, by dtype.

python -m tests.bench.cost --models 300 --modes 8 --versions 4 --billions 0.135 1.1 7

Cells of each dtype are measured from nothing loaded. What one takes grows with the number of
parameters; a model's first mode pays for reference and oracle, and the others find them. Models are
taken to be in equal numbers of the sizes.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from harness.measure.outcome import Plan
from harness.measure.references import References
from harness.measure.run import measure_cell
from harness.threads import one_thread
from tests.bench import smollm
from tests.bench.findings import Clock, in_a_process, tell

DTYPES = ("exact", "float32", "bfloat16")
BILLIONS = 0.1345
"""Parameters of SmolLM2-135M."""
HOUR = 3600


def main() -> None:
    """Measure, multiply, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--modes", type=int, default=8)
    parser.add_argument("--versions", type=int, default=4)
    parser.add_argument("--billions", type=float, nargs="+", default=[0.135, 1.1, 7.0])
    parser.add_argument("--cores", type=int, default=64)
    given = parser.parse_args()
    mean = sum(given.billions) / len(given.billions)
    each = given.models * given.versions
    table = Table("dtype", "cells", "first mode", "each other", "core hours", title="cost")
    total = 0.0
    for dtype, (first, other) in in_a_process("tests.bench.cost", "cells")["seconds"].items():
        hours = each * (first + (given.modes - 1) * other) * mean / BILLIONS / HOUR
        total += hours
        cells = f"{each * given.modes:,}"
        table.add_row(dtype, cells, f"{first:.1f} s", f"{other:.1f} s", f"{hours:,.0f}")
    table.add_row("all", f"{each * given.modes * len(DTYPES):,}", "", "", f"{total:,.0f}")
    console = Console(width=100, highlight=False)
    console.print(table)
    sizes = ", ".join(f"{size:g}" for size in given.billions)
    console.print(
        f"CPU seconds of one SmolLM2 cell, {smollm.PROMPTS} prompts × {smollm.LENGTH} tokens, one "
        f"thread; {given.models} models of {sizes} billion parameters; "
        f"{total / given.cores / 24:.1f} days on {given.cores} cores"
    )


def _cells() -> dict[str, tuple[float, float]]:
    """Give CPU seconds of a dtype's first cell and of a second: loading and measuring."""
    one_thread()
    plan, found = Plan(prompts=smollm.prompts(), shrink_seconds=0), {}
    for dtype in DTYPES:
        references = References()
        took = []
        for mode in ("hf_eager", "hf_eager", "bridge"):
            clock = Clock()
            cell = smollm.cell(mode, dtype)
            result = measure_cell(cell, run_id="bench", references=references, plan=plan)
            if result.verdict != "pass":
                raise RuntimeError(result.row["reason"])
            took.append(clock.stop().cpu)
        first, _, other = took  # the second puts on disk what the third finds
        found[dtype] = first, other
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["cells"]:
        tell(seconds=_cells())
    else:
        main()
