"""Repeatability: the same question has the same answer, to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.case import Prompt
from harness.measure.probes.model import Owed
from harness.measure.probes.padding import padded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.measure.probes.model import Model


def repeatability(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Run again, and again after other prompts: a forward pass leaves no state behind.

    In between stand the longest prompt that the model takes (rotary tables may grow with it) and
    one with padding on the left.
    """
    first = model.run(prompt)
    yield Owed(check="again", actual=model.run(prompt), expected=first, bitwise=True)
    row = prompt.tokens[0]
    longest = model.vocabulary.max_length
    repeated = (row * (longest // len(row) + 1))[:longest]
    model.run(Prompt.unpadded((repeated,), origin=prompt.origin))
    model.run(padded(prompt, side="left", by=1, pad=model.pad) if len(row) < longest else prompt)
    after = model.run(prompt)
    yield Owed(check="after other prompts", actual=after, expected=first, bitwise=True)
