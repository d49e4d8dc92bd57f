"""Residual identities: what leaves a branch is what enters the stream."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from harness.errors import Refused
from harness.measure.probes.model import Owed
from harness.measure.relations import layer_site
from harness.models.sites import within_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from harness.case import Prompt
    from harness.measure.probes.model import Activations, Model

# Where the stream is read, what was added to it since the place before, and that branch's norm.
_BRANCHES = (
    ("resid_mid", "attn_out", "ln1.out"),
    ("resid_mid_cross", "cross_attn_out", "ln2.out"),
    ("resid_post", "mlp_out", "ln2.out"),
)


def residual(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Add what a branch gives to the stream before it: the stream after it, by its own hook.

    `resid_pre + attn_out = resid_mid`, `resid_mid + mlp_out = resid_post`; a parallel block owes
    `resid_pre + attn_out + mlp_out = resid_post`. Logits can be right while these hooks are not.
    What leaves one block enters the next. The branch is named where the sum does not hold. Where
    the norms stand behind the sums, only the first of a block's has a hook on both sides. BLOOM
    can add a branch to its own normed input instead of the stream. Of a found model, those places
    are asked that were sums when its sites were found.
    """
    taken = model.plain(prompt)
    blocks = [site for site in taken if within_block(site) == "resid_pre"]
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for start in () if model.family.automatic else blocks:
        sums |= sums_of_block(model, taken, start)
    sums |= sums_found(model, taken)
    chained = {
        after: (taken[after], taken[layer_site(before, "resid_post")])
        for before, after in pairwise(blocks)
        if layer_site(before, "resid_post") in taken and stack_of(before) == stack_of(after)
    }
    if not sums and not chained:
        message = f"{model.family.name}: no two of the stream's hooks are there to be held together"
        raise Refused(message)
    for check, pairs in (("branches add up", sums), ("blocks follow", chained)):
        if pairs:
            yield Owed(
                check=check,
                actual={site: actual for site, (actual, _) in pairs.items()},
                expected={site: expected for site, (_, expected) in pairs.items()},
                bitwise=check == "blocks follow",
            )


def stack_of(site: str) -> str:
    """Give the stack of a block's site: `blocks` of `blocks.3.resid_pre`."""
    return site.partition(".")[0]


def sums_of_block(model: Model, taken: Activations, start: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Give, by the branch last added, the sum of the stream before it and what was added."""
    gains = model.residual_gains(start)
    sums = {}
    total, added = taken[start], ""
    for stream, branch, norm in _BRANCHES[:1] if model.is_post_norm else _BRANCHES:
        site = layer_site(start, branch)
        if site in taken:
            if model.adds_to_normed:
                total = taken[layer_site(start, norm)]
            total = total * gains.get(branch, 1.0) + taken[site]
            added = site
        end = layer_site(start, stream)
        if end in taken and added:
            sums[added] = (total, taken[end])
            total, added = taken[end], ""
    return sums


def sums_found(model: Model, taken: Activations) -> dict[str, tuple[Tensor, Tensor]]:
    """Give the sums that were found with a model's sites, by the branch last added."""
    return {
        added[-1]: (torch.stack([taken[site] for site in added]).sum(0), taken[end])
        for end, added in model.family.sums.items()
        if {end, *added} <= set(taken)
    }
