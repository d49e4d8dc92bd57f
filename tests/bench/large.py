"""memory. The peak of a cell whose oracle does not fit in float64: 1.1B parameters in bfloat16.

The checkpoint is a Llama in the shape of TinyLlama 1.1B (hidden size 2048, 22 layers, 32 heads on 4
key-value heads, 5632 wide, 32000 tokens), its weights drawn at random and made for each bench. The
oracle borrows the reference's weights module by module, as `HARNESS_MEMORY` leaves it no room.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

import torch

from harness.case import Case, Cell, Prompt
from harness.measure.memory import VARIABLE
from harness.measure.outcome import Plan
from harness.measure.references import References
from harness.measure.run import measure_cell
from harness.threads import one_thread
from tests.bench.findings import Clock, Finding, in_a_process, tell

SHAPE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
ROOM = "4"
"""GiB that the harness is told it has: less than the 8.2 that the float64 weights take."""


def measure() -> Iterator[Finding]:
    """Make the checkpoint and measure it, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        made = in_a_process("tests.bench.large", "make", folder)
        said = in_a_process("tests.bench.large", "cell", folder)
    yield Finding(
        bench="memory",
        name="peak memory of a cell of a 1.1B Llama, bridge, bfloat16",
        value=said["peak_mb"] / 1024,
        unit="GiB",
        at_most=8.0,
        note=f"{made['parameters'] / 1e9:.2f}B parameters, {said['rows']} comparisons, "
        f"{said['cpu']:.0f} CPU s",
    )


def make(folder: str) -> None:
    """Save the checkpoint: each weight drawn with the config's own spread."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, dtype=torch.bfloat16)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            mean = 1.0 if "norm" in name else 0.0
            weight.normal_(mean, config.initializer_range)
    model.save_pretrained(folder)
    tell(parameters=model.num_parameters())


def cell(folder: str) -> None:
    """Measure one cell on two prompts of 64 tokens."""
    os.environ[VARIABLE] = ROOM
    asked = Cell(
        case=Case(family="llama", checkpoint=f"folder:{folder}"),
        loading_mode="bridge",
        dtype="bfloat16",
    )
    rows = torch.randint(
        3, SHAPE["vocab_size"], (2, 64), generator=torch.Generator().manual_seed(0)
    )
    prompts = tuple(
        Prompt.unpadded((tuple(row),), origin=f"bank:{n}") for n, row in enumerate(rows.tolist())
    )
    references = References()
    clock = Clock()
    found = measure_cell(
        asked, run_id="bench", references=references, plan=Plan(prompts=prompts, shrink_seconds=0)
    )
    used = clock.stop()
    if found.verdict != "pass" or not references.of(asked).oracle.of_rounded_weights:
        raise RuntimeError(found.row["reason"])
    tell(rows=len(found.deltas), seconds=used.wall)


if __name__ == "__main__":
    one_thread()
    {"make": make, "cell": cell}[sys.argv[1]](sys.argv[2])
