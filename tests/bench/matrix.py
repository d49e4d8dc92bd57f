"""e. What a cell of the matrix costs, with one worker and two; and how that grows.

The sample is a few families of the default matrix in every mode, dtype and probe. Growth is that of
one exact and one float32 cell in this process, everything loaded anew: with the number of cells,
with the layers of a tiny GPT-2, the sites compared of one of 32 layers, and the prompt's length.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from harness.case import Case, Cell, Prompt
from harness.measure.outcome import Plan
from harness.measure.references import References
from harness.measure.run import measure_cell
from harness.models.ports.huggingface import TransformersRunner
from harness.record import finished_cells
from harness.threads import one_thread
from tests.bench.findings import Clock, Finding, a_run, exponent, in_a_process, tell

FAMILIES = ("gpt2", "llama", "gemma2", "mixtral")
SAMPLE = (*FAMILIES, "qwen3", "phi3", "olmo2", "gpt_neox", "opt", "glm")
PAIRS = 3
CELLS, LAYERS, LENGTHS = (8, 16, 32, 64), (8, 16, 32, 64), (16, 32, 64, 128)
SHARES = (1 / 8, 1 / 4, 1 / 2, 1)
MODES = ("hf_eager", "hf_sdpa", "bridge", "bridge_compat")
OF_LAYERS = 32
AT_MOST = 1.05


def measure() -> Iterator[Finding]:
    """Run the sample with one worker and two, in turns; then the growth in a process of its own."""
    yield from _runs()
    for name, found in in_a_process("tests.bench.matrix")["grows"].items():
        told = ", ".join(f"{size:g}: {cost:.2f} s" for size, cost in found["costs"])
        yield Finding(
            bench="e",
            name=f"cost ~ {name} to the power of",
            value=found["exponent"],
            unit="",
            at_most=None if name == "length of the prompt" else AT_MOST,
            note=told,
        )


def _runs() -> Iterator[Finding]:
    asked = (f"--family={','.join(SAMPLE)}", "--variant=default", "--checkpoint=synthetic")
    each: list[float] = []
    faster: list[float] = []
    with tempfile.TemporaryDirectory() as out:
        for pair in range(PAIRS):
            one = a_run(Path(out), f"one-{pair}", *asked)
            two = a_run(Path(out), f"two-{pair}", *asked, processes=2)
            cells = len(finished_cells(Path(out) / f"one-{pair}"))
            each.append(one.cpu / cells)
            faster.append(one.wall / two.wall)
    note = f"{cells} cells of {len(SAMPLE)} families, {one.wall:.0f} s and {two.wall:.0f} s"
    value = statistics.median(each)
    yield Finding(bench="e", name="a cell of the default matrix", value=value, unit="CPU seconds")
    value = statistics.median(faster)
    yield Finding(
        bench="e", name="two workers over one", value=value, unit="×", at_least=1.7, note=note
    )


def main() -> None:
    """Measure each kind of growth."""
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        case = {layers: _gpt2(Path(folder), layers) for layers in {*LAYERS, OF_LAYERS}}
        _seconds(_both(case[OF_LAYERS]))  # what is imported and made once is paid here
        every = [
            Cell(case=Case(family=family), loading_mode=mode, dtype=dtype)
            for family, mode, dtype in product(FAMILIES, MODES, ("exact", "float32"))
        ]
        cells = [*every, *every]
        grows = {
            "number of cells": _growth(CELLS, lambda n: _seconds(islice(cells, n))),
            "layers": _growth(LAYERS, lambda n: _seconds(_both(case[n]))),
            "sites": _growth(
                SHARES, lambda share: _seconds(_both(case[OF_LAYERS]), every=round(1 / share))
            ),
            "length of the prompt": _growth(
                LENGTHS, lambda n: _seconds(_both(case[LAYERS[0]]), length=n)
            ),
        }
    tell(grows=grows)


def _growth(sizes: Sequence[float], cost: Callable[[Any], float]) -> dict:
    """Fit the exponent to the median cost of each size."""
    costs = [statistics.median(cost(size) for _ in range(3)) for size in sizes]
    found = {"exponent": exponent(sizes, costs)}
    return {**found, "costs": list(zip(sizes, costs, strict=True))}


def _both(case: Case) -> list[Cell]:
    return [Cell(case=case, loading_mode="bridge", dtype=each) for each in ("exact", "float32")]


def _gpt2(folder: Path, layers: int) -> Case:
    """Save a tiny GPT-2 of so many layers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"n_embd": 32, "n_head": 4, "n_positions": 256, "vocab_size": 97}
    special = {"bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(n_layer=layers, **shape, **special))
    model.save_pretrained(folder / f"gpt2-{layers}")
    return Case(family="gpt2", checkpoint=f"folder:{folder / f'gpt2-{layers}'}")


def _seconds(cells: Iterator[Cell] | Sequence[Cell], *, length: int = 16, every: int = 1) -> float:
    """Measure cells from nothing loaded; give CPU seconds. Of the sites, every n-th is compared."""
    draw = random.Random(0)
    rows = [tuple(draw.randrange(3, 60) for _ in range(length)) for _ in range(4)]
    prompts = tuple(Prompt.unpadded((row,), origin=f"bank:{n}") for n, row in enumerate(rows))
    plan, references = Plan(prompts=prompts, shrink_seconds=0), References()

    sites = property(lambda runner: runner._sites[::-1][::every][::-1])  # logits are the last

    clock = Clock()
    for cell in cells:
        with patch.object(TransformersRunner, "sites", sites):
            found = measure_cell(cell, run_id="bench", references=references, plan=plan)
        if found.verdict not in {"pass", "unavailable", "known"}:
            raise RuntimeError(found.row["reason"])
    return clock.stop().cpu


if __name__ == "__main__":
    main()
