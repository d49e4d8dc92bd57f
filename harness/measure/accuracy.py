"""How right the sketch's estimate of a drift is, on real activations moved by real drifts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from harness.case import EXACT, Case, Cell
from harness.measure.entries import entries
from harness.measure.prompts import Vocabulary, bank
from harness.measure.references import Reference
from harness.measure.relations import EQUAL
from harness.models.checkpoints import checkpoint_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from harness.case import Prompt

MOVES: Final = (1e-3, 1e-6, 1e-9)
"""By how much one weight element is moved: what a fault is like, down to a hundred bounds."""

LEAST: Final = 1e-14
"""Below this the last place of the sums themselves is what moves."""

_MODE: Final = "hf_eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Estimated and true drift [site] of a reference after one weight element was moved."""

    family: str
    moved_by: float
    true: tuple[float, ...]
    estimated: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Give estimated ÷ true, per site."""
        return [found / true for found, true in zip(self.estimated, self.true, strict=True)]

    @property
    def median_drift(self) -> float:
        """Give the median of the true drifts."""
        return float(np.median(self.true))

    def quantile(self, share: float) -> float:
        """Give a quantile of estimated ÷ true."""
        return float(np.quantile(self.ratios, share))

    @property
    def rms_error(self) -> float:
        """Give the root mean square of the relative error."""
        return float(np.sqrt(np.mean(np.subtract(self.ratios, 1.0) ** 2)))


def accuracies(family: str, *, elements: int) -> Iterator[Accuracy]:
    """Move elements of a family's weights, one at a time, and give the drifts at all sites.

    Synthetic checkpoint, true float64, the bank of prompts laid end to end, as a gate has them.
    """
    case = Case(family=family)
    checkpoint = checkpoint_of(case)
    cell = Cell(case=case, loading_mode=_MODE, dtype=EXACT)
    prompts = bank(Vocabulary.of(checkpoint.config, padding=True))
    before = Reference(cell, checkpoint, exact=None)
    for by in MOVES:
        found: list[tuple[float, float]] = []
        for element in range(elements):
            after = Reference(cell, checkpoint, exact=None)
            _move(after.runner.model, element, by)
            found += _drifts(before, after, prompts)
        true, estimated = zip(*(pair for pair in found if pair[0] > LEAST), strict=True)
        yield Accuracy(family=family, moved_by=by, true=true, estimated=estimated)


def _move(model: torch.nn.Module, element: int, by: float) -> None:
    """Move one element of the first block's first matrix."""
    weights = model.named_parameters()
    matrix = next(each for name, each in weights if ".0." in name and each.ndim > 1)
    with torch.no_grad():
        matrix.view(-1)[element] += by


def _drifts(
    before: Reference, after: Reference, prompts: Sequence[Prompt]
) -> Iterator[tuple[float, float]]:
    """Give the true and the estimated drift of each site."""
    pairs = zip(before.fingerprints(prompts), after.fingerprints(prompts), strict=True)
    for old, new in pairs:
        if old["relation"] != EQUAL.kind:
            continue
        sites = [_values(side, prompts, old["site"]) for side in (before, after)]
        gap = math.hypot(*(float((b - a).norm()) for a, b in zip(*sites, strict=True)))
        yield gap / old["norm"], math.dist(old["sketch"], new["sketch"]) / old["norm"]


def _values(side: Reference, prompts: Sequence[Prompt], site: str) -> list[Tensor]:
    """Give a site's values for each prompt, zero where they do not count."""
    found = []
    for prompt in prompts:
        tensor = side.activations(prompt)[site]
        tensor, _, counts = entries(tensor, tensor, prompt, site, dtype=EXACT)
        found.append(torch.where(counts, tensor.double(), 0.0))
    return found
