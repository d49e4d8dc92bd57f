"""SmolLM2 as benches use it: its case, and prompts of random tokens."""

from __future__ import annotations

import random

from harness.case import Case, Cell, Prompt

CASE = Case(family="llama", checkpoint="packaged:smollm2-135m-instruct")
LENGTH, PROMPTS, VOCABULARY = 64, 4, 49152


def cell(mode: str = "bridge", dtype: str = "float32") -> Cell:
    """Give a cell of it."""
    return Cell(case=CASE, loading_mode=mode, dtype=dtype)


def prompts() -> tuple[Prompt, ...]:
    """Give 4 prompts of 64 tokens, without the special ones."""
    draw = random.Random(0)
    rows = [tuple(draw.randrange(3, VOCABULARY) for _ in range(LENGTH)) for _ in range(PROMPTS)]
    return tuple(Prompt.unpadded((row,), origin=f"bank:bench-{n}") for n, row in enumerate(rows))
