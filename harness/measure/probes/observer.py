"""Observer effect: looking changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from harness.measure.probes.model import Owed
from harness.models.ports.asking import OUTPUTS, Asking
from harness.models.sites import LOGITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.case import Prompt
    from harness.measure.probes.model import Model

KEPT: Final = "hooks that fire are in run_with_cache"


def observer(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Ask for more than logits: hooks, attentions, hidden states, a cache. The numbers stay.

    What is asked for may take another path (attentions need eager attention), so that rounding
    may differ; meaning may not. What a hook fires, TransformerLens' cache holds.
    """
    seen = model.plain(prompt)
    yield Owed(
        check="hooks", actual={LOGITS: seen[LOGITS]}, expected={LOGITS: model.logits(prompt)}
    )
    if model.cell.mode.is_plugged:
        return  # it can be asked for sites and for nothing else
    if not model.is_reference_library:
        cached, lacking = model.run_with_cache(prompt)
        # A hook that fired and is not in the cache: nothing else would miss it.
        if lost := {site: torch.zeros(1) for site in lacking if site in seen}:
            ones = {site: torch.ones(1) for site in lost}
            yield Owed(check=KEPT, actual=lost, expected=ones, bitwise=True)
        yield Owed(
            check="run_with_cache",
            actual=cached,
            expected={site: tensor for site, tensor in seen.items() if site in cached},
        )
        return
    for output in OUTPUTS:
        asked = model.run(prompt, Asking(outputs=(output,)))
        yield Owed(check=f"{output} asked for", actual=asked, expected=seen)
    asked = model.run(prompt, Asking(cache=False))  # a plain call keeps one
    yield Owed(check="no cache kept", actual=asked, expected=seen)
