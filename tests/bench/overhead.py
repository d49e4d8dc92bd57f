"""a. What a full cell of SmolLM2 costs over the bare forwards that it needs, in float32.

All sites of 4 prompts × 64 tokens are captured, compared, judged and fingerprinted. The forwards
are those of reference, oracle and port, without a hook. Both begin with the three models loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from harness.measure.capture import capture, capture_each
from harness.measure.outcome import Plan
from harness.measure.references import References, numerics_of
from harness.measure.run import measure_cell
from harness.models.ports import load_port
from harness.threads import one_thread
from tests.bench import smollm
from tests.bench.findings import (
    Clock,
    Finding,
    Usage,
    in_a_process,
    interleaved,
    median,
    median_ratio,
    tell,
)

TIMES = 5


def measure() -> Iterator[Finding]:
    """Measure in a process of its own."""
    said = in_a_process("tests.bench.overhead")
    yield Finding(
        bench="a",
        name="a full cell over the bare forwards it needs",
        value=said["ratio"],
        unit="× CPU seconds",
        at_most=1.25,
        note=f"{said['cell']:.1f} s against {said['bare']:.1f} s, {said['rows']} comparisons",
    )
    yield Finding(
        bench="a",
        name="the same forwards with every site captured, and nothing compared",
        value=said["floor"],
        unit="× CPU seconds",
        note="what hooks and copies take by themselves",
    )


def main() -> None:
    """Load the three models once, then measure cell and forwards in turns."""
    one_thread()
    cell, prompts, references = smollm.cell(), smollm.prompts(), References()
    reference = references.of(cell)
    port = load_port(cell, reference.checkpoint)
    rows = []

    def a_cell() -> Usage:
        for side in (reference, reference.oracle):
            side.forget()
        clock = Clock()
        found = measure_cell(
            cell,
            run_id="bench",
            references=references,
            plan=Plan(prompts=prompts),
            load=lambda *_: port,
        )
        used = clock.stop()
        if found.verdict != "pass":
            raise RuntimeError(found.row["reason"])
        rows.append(len(found.deltas))
        return used

    def bare() -> Usage:
        clock = Clock()
        with torch.no_grad():
            for prompt in prompts:
                tokens = torch.tensor(prompt.tokens)
                port.bridge(tokens, return_type="logits")
                reference.runner.model(tokens)
                with numerics_of("exact"):
                    reference.oracle.runner.model(tokens)
        return clock.stop()

    def captured() -> Usage:
        clock = Clock()
        for prompt in prompts:
            for side in (reference, reference.oracle):
                with numerics_of(side.dtype):
                    capture(side.runner, prompt, side.runner.sites)
            capture_each(port, prompt, port.sites, lambda *_: None)
        return clock.stop()

    works = {"bare": bare, "captured": captured, "cell": a_cell}
    found = interleaved(works, times=TIMES)
    tell(
        ratio=median_ratio(found["cell"], found["bare"], "cpu"),
        floor=median_ratio(found["captured"], found["bare"], "cpu"),
        cell=median(found["cell"], "cpu"),
        bare=median(found["bare"], "cpu"),
        rows=rows[0],
    )


if __name__ == "__main__":
    main()
