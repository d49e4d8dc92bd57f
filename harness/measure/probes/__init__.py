"""What one model owes itself, one question a file. A probe takes a model, and gives what it owes.

Each yields pairs of activations that must be the same; comparing and judging them is the work of
`harness.measure.probing`. A probe that a family does not owe anything says so by `Refused`.
"""

from __future__ import annotations

from typing import Final

from harness.measure.probes.backends import backends
from harness.measure.probes.batch import batch
from harness.measure.probes.cached_decoding import cached_decoding
from harness.measure.probes.causality import causality
from harness.measure.probes.gradients import gradients
from harness.measure.probes.hidden_to_logits import hidden_to_logits
from harness.measure.probes.hook_semantics import hook_semantics
from harness.measure.probes.model import Model, Owed, Probe, longest, telling
from harness.measure.probes.observer import observer
from harness.measure.probes.padding import padding
from harness.measure.probes.pattern import pattern
from harness.measure.probes.repeatability import repeatability
from harness.measure.probes.residual import residual
from harness.measure.probes.save_load import save_load
from harness.measure.probes.tokens import any_one, tokens

__all__ = ["PROBES", "Model", "Owed", "Probe"]

PROBES: Final[dict[str, Probe]] = {
    ask.__name__: Probe(ask=ask, prompts=telling)
    for ask in (
        causality,
        observer,
        repeatability,
        batch,
        padding,
        residual,
        pattern,
        backends,
        gradients,
        hook_semantics,
    )
} | {
    "cached_decoding": Probe(ask=cached_decoding, prompts=longest),
    "save_load": Probe(ask=save_load, prompts=longest),
    "hidden_to_logits": Probe(ask=hidden_to_logits, prompts=longest),
    "tokens": Probe(ask=tokens, prompts=any_one),
}
