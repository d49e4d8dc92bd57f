"""b. The harness against what a user would write, on SmolLM2, float32, one thread, no oracle.

The notebook loads both models, runs them, and compares the residual stream and the logits. The
harness loads the same two and compares every site that both have. Both from start to end of their
process, imports and loading included.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch

from harness.threads import one_thread
from tests.bench import smollm
from tests.bench.findings import Finding, Usage, in_a_process, median, median_ratio, tell, usage_of

TIMES = 3


def measure() -> Iterator[Finding]:
    """Run both in turns."""
    said: dict[str, list[dict]] = {"notebook": [], "harness": []}
    for _ in range(TIMES):
        for side, found in said.items():
            found.append(in_a_process("tests.bench.notebook", side))
    usages: dict[str, list[Usage]] = {
        side: [usage_of(each) for each in found] for side, found in said.items()
    }
    ours, theirs = usages["harness"], usages["notebook"]
    counts = {side: found[0]["compared"] for side, found in said.items()}
    told = f"{counts['harness']} comparisons against {counts['notebook']}"
    for what, unit, most in (("cpu", "× CPU seconds", 1.0), ("peak_mb", "× peak memory", 0.8)):
        yield Finding(
            bench="b",
            name="the harness over a notebook",
            value=median_ratio(ours, theirs, what),
            unit=unit,
            at_most=most,
            note=f"{median(ours, what):.1f} against {median(theirs, what):.1f}, {told}",
        )


def notebook() -> int:
    """Do what a careful user writes; give how many tensors were compared."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM

    from harness.models.checkpoints import checkpoint_of

    path = checkpoint_of(smollm.CASE).path
    tokens = torch.tensor([row for prompt in smollm.prompts() for row in prompt.tokens])
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    bridge = TransformerBridge.boot_transformers(str(path), dtype=torch.float32)
    with torch.no_grad():
        output = model(tokens, output_hidden_states=True)
        logits, cache = bridge.run_with_cache(tokens)
    pairs = [(logits, output.logits), (cache["ln_final.hook_out"], output.hidden_states[-1])]
    for layer, hidden in enumerate(output.hidden_states[:-1]):
        pairs.append((cache[f"blocks.{layer}.hook_resid_pre"], hidden))
        if layer:
            pairs.append((cache[f"blocks.{layer - 1}.hook_resid_post"], hidden))
    worst = max(float((one - other).abs().max()) for one, other in pairs)
    if not worst < 1:
        raise RuntimeError(worst)
    return len(pairs)


def harness() -> int:
    """Measure the cell, the reference standing in for its own oracle."""
    from harness.measure.outcome import Plan
    from harness.measure.references import Reference, References
    from harness.measure.run import measure_cell

    class WithoutOracle(References):
        """Loads the reference alone."""

        def of(self, cell):
            if not self._loaded:
                self._loaded["", ""] = Reference(cell, self._checkpoint(cell.case), exact=None)
            return self._loaded["", ""]

    plan = Plan(prompts=smollm.prompts(), shrink_seconds=0)
    found = measure_cell(smollm.cell(), run_id="bench", references=WithoutOracle(), plan=plan)
    if not found.deltas:
        raise RuntimeError(found.row["reason"])
    return len(found.deltas)


if __name__ == "__main__":
    one_thread()
    tell(compared={"notebook": notebook, "harness": harness}[sys.argv[1]]())
