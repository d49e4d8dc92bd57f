"""Observer effect: looking changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measure.probes.model import Owed
from harness.models.ports.asking import OUTPUTS, Asking
from harness.models.sites import LOGITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.case import Prompt
    from harness.measure.probes.model import Model


def observer(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Ask for more than logits: hooks, attentions, hidden states, a cache. The numbers stay.

    What is asked for may take another path (attentions need eager attention), so that rounding
    may differ; meaning may not.
    """
    seen = model.plain(prompt)
    yield Owed(
        check="hooks", actual={LOGITS: seen[LOGITS]}, expected={LOGITS: model.logits(prompt)}
    )
    if model.cell.mode.is_plugged:
        return  # it can be asked for sites and for nothing else
    if not model.is_reference_library:
        cached = model.run_with_cache(prompt)
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
