"""Pattern: attention looks where it may, and spends all it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.case import EXACT
from harness.errors import Refused
from harness.measure.probes.model import Owed
from harness.models.sites import layer_of, within_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Bool
    from torch import Tensor

    from harness.case import Prompt
    from harness.measure.probes.model import Model


def pattern(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Read attention's pattern: rows sum to 1, and nothing is where the mask says nothing may be.

    A sink takes a share of each row, so that its rows sum to less. Above the diagonal and outside
    a layer's window every weight is 0; within, in true float64, none is, but where the family
    chooses its keys. Which layers have a window is read off the config, not off a mask; of a found
    model nobody knows, so that it is asked for what is above the diagonal alone.
    """
    taken = model.plain(prompt)
    patterns = {site: tensor for site, tensor in taken.items() if site.endswith(".pattern")}
    if not patterns:
        message = f"{model.cell.loading_mode} gives no pattern to be read"
        raise Refused(message)
    sums = {site: tensor.sum(-1) for site, tensor in patterns.items()}
    if model.family.sinks:
        limited = {site: total.clamp(0.0, 1.0) for site, total in sums.items()}
        yield Owed(check="rows sum to 1 at most", actual=sums, expected=limited)
    else:
        ones = {site: torch.ones_like(total) for site, total in sums.items()}
        yield Owed(check="rows sum to 1", actual=sums, expected=ones)
    allowed = {site: allowed_keys(model, site, tensor) for site, tensor in patterns.items()}
    forbidden = {site: tensor * ~allowed[site] for site, tensor in patterns.items()}
    zeros = {site: torch.zeros_like(tensor) for site, tensor in patterns.items()}
    yield Owed(
        check="nothing where it may not look", actual=forbidden, expected=zeros, bitwise=True
    )
    sees_all = not (model.family.chooses_keys or model.family.automatic)
    if model.cell.dtype == EXACT and sees_all:
        looked = {site: (tensor > 0) | ~allowed[site] for site, tensor in patterns.items()}
        yield Owed(
            check="something wherever it may look",
            actual={site: each.double() for site, each in looked.items()},
            expected={site: torch.ones_like(each).double() for site, each in looked.items()},
            bitwise=True,
        )


def allowed_keys(model: Model, site: str, like: Tensor) -> Bool[Tensor, "query key"]:
    """Say which keys each query may look at, by the family and the config alone."""
    n_queries, n_keys = like.shape[-2:]
    every = torch.ones(n_queries, n_keys, dtype=torch.bool, device=like.device)
    within = within_block(site)
    if within.startswith("cross_attn") or site.startswith("encoder_"):
        return every
    if not model.family.causal and not site.startswith("decoder_"):
        return every
    allowed = every.tril()
    if model.family.automatic:
        return allowed  # nobody has written down how its config states its windows
    window = model.window_of(layer_of(site) or 0)
    return allowed if window is None else allowed & ~every.tril(-window)
