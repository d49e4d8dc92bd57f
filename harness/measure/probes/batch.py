"""Batch invariance: a row does not know what stands beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.case import Prompt
from harness.measure.probes.model import Owed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.measure.probes.model import Model


def batch(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Run a row alone: what it gives is what it gave in a batch.

    Matrix products may sum in another order for another shape, so that rounding may differ.
    """
    rows = prompt.tokens if len(prompt.tokens) > 1 else (prompt.tokens[0], prompt.tokens[0][::-1])
    together = model.run(Prompt.unpadded(rows, origin=prompt.origin))
    for place in (0, len(rows) - 1):
        alone = model.run(Prompt.unpadded((rows[place],), origin=prompt.origin))
        # One row may stand for all, as GPT-2's positions do.
        beside = {
            site: tensor if tensor.shape[0] == 1 else tensor[place : place + 1]
            for site, tensor in together.items()
        }
        name = "first" if place == 0 else "last"
        yield Owed(check=f"the {name} row alone", actual=alone, expected=beside)
