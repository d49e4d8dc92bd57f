"""memory. The peak of a cell: of SmolLM2, and of a model whose oracle does not fit in float64.

The latter is a Llama in the shape of TinyLlama 1.1B (hidden size 2048, 22 layers, 32 heads on 4
key-value heads, 5632 wide, 32000 tokens), its weights drawn at random and made for each bench.
Where `HARNESS_MEMORY` leaves the oracle no room, it borrows the reference's weights module by
module.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

import torch

from harness.case import Case, Cell, Prompt
from harness.measure.memory import VARIABLE
from harness.measure.outcome import Plan
from harness.measure.references import References
from harness.measure.run import measure_cell
from harness.models.checkpoints import checkpoint_of
from harness.threads import one_thread
from tests.bench import smollm
from tests.bench.findings import Finding, in_a_process, tell

SHAPE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
ROOM_FOR_NONE = "1"
ROOM = "4"
"""GiB that the harness is told it has: less than the float64 weights take, of either model."""
GB = 2**20 / 1e9


def measure() -> Iterator[Finding]:
    """Measure each cell in a process of its own."""
    for words, room in (("", None), (", borrowed oracle", ROOM_FOR_NONE)):
        told = {} if room is None else {VARIABLE: room}
        said = in_a_process("tests.bench.memory", "smollm", **told)
        yield Finding(
            bench="memory",
            name=f"a cell of SmolLM2, bridge, float32{words}",
            value=said["peak_mb"] * GB,
            unit="GB",
            at_most=3.0,
            note=f"{said['cpu']:.1f} CPU s from start to end",
        )
    with tempfile.TemporaryDirectory() as folder:
        made = in_a_process("tests.bench.memory", "make", folder)
        said = in_a_process("tests.bench.memory", "llama", folder, **{VARIABLE: ROOM})
    yield Finding(
        bench="memory",
        name="a cell of a 1.1B Llama, bridge, bfloat16, borrowed oracle",
        value=said["peak_mb"] * GB,
        unit="GB",
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
    for file in checkpoint_of(Case(family="llama")).path.glob("*token*"):  # a bridge asks for one
        shutil.copy(file, folder)
    tell(parameters=model.num_parameters())


def llama(folder: str) -> None:
    """Measure one cell of it on two prompts of 64 tokens."""
    asked = Cell(
        case=Case(family="llama", checkpoint=f"folder:{folder}"),
        loading_mode="bridge",
        dtype="bfloat16",
    )
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(3, SHAPE["vocab_size"], (2, 64), generator=draw).tolist()
    _measure(asked, tuple(Prompt.unpadded((tuple(row),), origin=f"bank:{row[0]}") for row in rows))


def of_smollm() -> None:
    """Measure one cell of SmolLM2."""
    _measure(smollm.cell(), smollm.prompts())


def _measure(cell: Cell, prompts: tuple[Prompt, ...]) -> None:
    references, plan = References(), Plan(prompts=prompts, shrink_seconds=0)
    found = measure_cell(cell, run_id="bench", references=references, plan=plan)
    if found.verdict != "pass":
        raise RuntimeError(found.row["reason"])
    if references.of(cell).oracle.of_rounded_weights is not (VARIABLE in os.environ):
        raise RuntimeError("the oracle is not held as it was asked for")
    tell(rows=len(found.deltas))


if __name__ == "__main__":
    one_thread()
    {"make": make, "llama": llama, "smollm": of_smollm}[sys.argv[1]](*sys.argv[2:])
