"""How far rounding alone takes the reference on one prompt, had it fallen otherwise.

Where large terms cancel, rounding goes far, and how far it went in one run is luck: two runs of the
same weights, by other kernels, can differ by several times the error of either. So before a row
is called red in a dtype that rounds, the reference is run again with some values of each module's
output moved to their neighbours in the dtype, at random (docs/decisions/0027). It is Monte Carlo
arithmetic: Parker, UCLA CSD-970002, 1997.
"""

from __future__ import annotations

import math
import statistics
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch

from harness.measure.capture import capture
from harness.measure.compare import relative_distance
from harness.measure.entries import entries
from harness.measure.routing import ROUTER, chooses_unseen, experts_chosen, flips_between
from harness.models.sites import within_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from harness.case import Prompt
    from harness.measure.references import Reference
    from harness.measure.relations import Relation

RUNS: Final = 8
MOVED: Final = 0.25
"""Share of the values that become a neighbour: half a rounding's width, root mean square."""

_EXACT_MODULES: Final = (torch.nn.Embedding, torch.nn.Dropout, torch.nn.Identity)
"""Modules that hand values on, and round nothing."""


def spread_at(
    reference: Reference, prompt: Prompt, relations: Mapping[str, Relation]
) -> dict[str, float]:
    """Give how far the reference moves on a prompt if it rounds otherwise: rel_l2, median of runs.

    At the sites of `relations`, in the coordinates that each is compared in. Runs in which a token
    goes to another expert than in the oracle's are left out, for they would excuse anything, and so
    are distances that are not finite. Where none is left, or the model chooses by numbers which no
    site shows, it is 0. Kept by the reference: a prompt and site are asked once.
    """
    keys = {site: (prompt.prompt_id, site, each.kind) for site, each in relations.items()}
    asked = [site for site, key in keys.items() if key not in reference.spreads]
    if asked:
        moved: dict[str, list[float]] = {site: [] for site in asked}
        for run in () if chooses_unseen(reference) else _runs(reference, prompt, asked):
            for site in asked:
                actual, expected = run[site]
                values, expected, counts = entries(
                    actual, expected, prompt, site, dtype=reference.dtype
                )
                found = relative_distance(values, expected, relation=relations[site], counts=counts)
                moved[site] += [found] if math.isfinite(found) else []
        for site in asked:
            found = statistics.median(moved[site]) if moved[site] else 0.0
            reference.spreads[keys[site]] = found
    return {site: reference.spreads[key] for site, key in keys.items()}


def _runs(
    reference: Reference, prompt: Prompt, asked: Sequence[str]
) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Run the reference anew; give each site's tensor beside the one that it gave before."""
    expected = reference.activations(prompt, keep=False)
    oracle = reference.oracle.activations(prompt, keep=False)
    if _flipped(reference, prompt, expected, oracle):
        return
    routers = {site for site in reference.runner.sites if within_block(site) == ROUTER}
    wanted = [site for site in reference.runner.sites if site in routers.union(asked)]
    for seed in range(RUNS):
        with rounded_otherwise(reference.runner.model, seed=seed):
            taken = capture(reference.runner, prompt, wanted)
        if not _flipped(reference, prompt, taken, oracle):
            yield {site: (taken[site], expected[site]) for site in asked}


@contextmanager
def rounded_otherwise(model: torch.nn.Module, *, seed: int) -> Iterator[None]:
    """Move some values that each innermost module gives to their neighbours in the dtype."""
    generator = torch.Generator().manual_seed(seed)

    def moved(tensor: object) -> object:
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            return tensor
        drawn = torch.rand(tensor.shape, generator=generator).to(tensor.device)
        up, down = (torch.full_like(tensor, toward) for toward in (math.inf, -math.inf))
        neighbour = torch.nextafter(tensor, torch.where(drawn < MOVED / 2, up, down))
        stay = (drawn >= MOVED) | ~tensor.isfinite() | ~neighbour.isfinite()
        return torch.where(stay, tensor, neighbour)

    def hook(_module: torch.nn.Module, _given: object, output: object) -> object:
        if type(output) is not tuple:
            return moved(output)
        # A router that has chosen gives the logits first: moved, they would tell of another choice.
        kept = 1 if any(map(_holds_indices, output)) else 0
        return (*output[:kept], *map(moved, output[kept:]))

    innermost = [
        module
        for module in model.modules()
        if not any(True for _ in module.children()) and not isinstance(module, _EXACT_MODULES)
    ]
    handles = [module.register_forward_hook(hook) for module in innermost]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _holds_indices(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in {torch.int64, torch.int32}


def _flipped(
    reference: Reference, prompt: Prompt, taken: Mapping[str, Tensor], oracle: Mapping[str, Tensor]
) -> bool:
    real = torch.tensor(prompt.attention_mask, dtype=torch.bool)
    chosen = experts_chosen(reference.config)
    return flips_between((taken, taken), oracle, chosen=chosen, real=real).number > 0


def root_mean_square(errors: Sequence[float]) -> float:
    """Give the root mean square of errors, of which there is one at least."""
    return math.sqrt(sum(error**2 for error in errors) / len(errors))
