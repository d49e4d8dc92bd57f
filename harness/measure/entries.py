"""Which entries of a site's tensor count: neither padding nor masked out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from harness import bounds
from harness.errors import CaptureError
from harness.models.sites import is_attention_matrix, within_block

if TYPE_CHECKING:
    from torch import Tensor

    from harness.case import Prompt


def entries(
    actual: Tensor, expected: Tensor, prompt: Prompt, site: str, *, dtype: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Give both tensors in one shape, and which of their entries count: [batch, pos, …].

    Padding does not count: what a model computes there is nobody's promise. In a matrix of
    scores, what is masked out is minus infinity on both sides and does not count; where one side
    masks and the other does not, the infinity stays alone and fails.

    Raises:
        CaptureError: the shapes do not fit.
    """
    try:
        shape = actual.shape
        if shape != expected.shape:  # broadcast_shapes takes a tenth of a cell's time
            shape = torch.broadcast_shapes(shape, expected.shape)
    except RuntimeError as error:
        message = (
            f"{site}: the port's tensor is {by_x(actual)}, the reference's {by_x(expected)}; "
            "next: see whether the port's hook gives what its name says"
        )
        raise CaptureError(message) from error
    # What was kept on disk, or computed in borrowed weights, lies on the CPU.
    actual, expected = actual.expand(shape), expected.to(actual.device).expand(shape)
    if prompt.padded and not _stands_at_the_decoder(site):
        real = torch.tensor(prompt.attention_mask, dtype=torch.bool, device=actual.device)
        if shape[0] == 1:  # one row stands for all, as GPT-2's positions do
            real = real.all(0, keepdim=True)
        counts = spread(real, site, actual)
    else:
        counts = torch.ones((), dtype=torch.bool, device=actual.device).expand(shape)
    if not is_attention_matrix(site):
        return actual, expected, counts
    if site.endswith("attn_scores"):
        floor = bounds.masked_below(dtype)
        actual = actual.masked_fill(actual <= floor, -math.inf)
        expected = expected.masked_fill(expected <= floor, -math.inf)
        counts = counts & ~(actual.isneginf() & expected.isneginf())
    return actual, expected, counts


def _stands_at_the_decoder(site: str) -> bool:
    """Say whether a site's positions are a decoder's, which has no mask of its own.

    Keys and values of cross attention are the encoder's.
    """
    return site.startswith("decoder_") and within_block(site) not in (
        "cross_attn.k",
        "cross_attn.v",
    )


def by_x(tensor: Tensor) -> str:
    """Give a shape as `2x11x20`."""
    return "x".join(map(str, tensor.shape))


def spread(positions: Tensor, site: str, like: Tensor) -> Tensor:
    """Spread [batch, pos] over a site's layout; in a matrix of attention, over its queries."""
    positions = positions.to(like.device)
    if is_attention_matrix(site):
        return positions[:, None, :, None].expand(like.shape)
    return positions.view(*positions.shape, *(1,) * (like.ndim - 2)).expand(like.shape)
