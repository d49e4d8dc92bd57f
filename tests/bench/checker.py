"""c. The harness against TransformerLens' own checker, on the same tiny checkpoints, in float32.

`transformer_lens.benchmarks` loads a model and its bridge, unprocessed and processed, and compares
them: each component once, logits and loss in each phase. Its phase 4 asks a judge from the hub and
is left out. The harness is asked for the same two modes by its own command, with its own prompts,
its control and its rows written. Both from start to end of their process.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.case import Case
from harness.models.checkpoints import checkpoint_of
from harness.record import read_deltas
from harness.threads import one_thread
from tests.bench.findings import Finding, Usage, a_run, in_a_process, tell, usage_of

FAMILIES = ("gpt2", "llama", "qwen2")
PHASES = [1, 2, 3]
COMPARING = ("forward_pass_logits", "forward_pass_loss", "logits_equivalence", "loss_equivalence")
"""Its checks that hold one tensor or number of the bridge against Hugging Face's."""


def measure() -> Iterator[Finding]:
    """Ask each family of both, in turns."""
    theirs, ours = [], []
    for family in FAMILIES:
        checkpoint_of(Case(family=family))  # made before anything is timed
        theirs.append(in_a_process("tests.bench.checker", family))
        ours.append(_harness(family))
    their_seconds, our_seconds = (sum(use.cpu for use, _ in side) for side in (_uses(theirs), ours))
    their_number = sum(said["compared"] for said in theirs)
    our_number = sum(number for _, number in ours)
    yield Finding(
        bench="c",
        name="comparisons with the reference per CPU second, over TransformerLens' checker",
        value=(our_number / our_seconds) / (their_number / their_seconds),
        unit="×",
        at_least=5,
        note=f"{our_number} in {our_seconds:.1f} s against {their_number} in {their_seconds:.1f} s"
        f" ({', '.join(FAMILIES)})",
    )
    yield Finding(
        bench="c",
        name="time per model, over TransformerLens' checker",
        value=our_seconds / their_seconds,
        unit="× CPU seconds",
        note=f"{our_seconds / len(FAMILIES):.1f} s against {their_seconds / len(FAMILIES):.1f} s",
    )


def _uses(said: list[dict]) -> list[tuple[Usage, int]]:
    return [(usage_of(each), each["compared"]) for each in said]


def _harness(family: str) -> tuple[Usage, int]:
    """Measure both modes by the command; give what it took, and how many rows it compared."""
    with tempfile.TemporaryDirectory() as out:
        of = (f"--family={family}", "--variant=default", "--checkpoint=synthetic")
        asked = (*of, "--mode=bridge,bridge_compat", "--dtype=float32", "--probe=none")
        used = a_run(Path(out), "mine", *asked)
        return used, len(read_deltas(Path(out) / "mine"))


def checker(family: str) -> int:
    """Run TransformerLens' checker; give how many comparisons with the reference it makes."""
    from transformer_lens.benchmarks import run_benchmark_suite

    path = checkpoint_of(Case(family=family)).path
    with contextlib.redirect_stdout(io.StringIO()):
        found = run_benchmark_suite(str(path), verbose=False, phases=PHASES)
    components = sum(
        each.details["total_components"] for each in found if each.name == "all_components"
    )
    others = sum(each.name in COMPARING for each in found)
    if not components or not others:
        raise RuntimeError([each.name for each in found])
    return components + others


if __name__ == "__main__":
    one_thread()
    tell(compared=checker(sys.argv[1]))
