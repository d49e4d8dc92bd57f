"""How far apart the two sides are at each position of a prompt, at one site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from harness.measure.compare import brought_together
from harness.measure.entries import entries
from harness.models.sites import is_attention_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from harness.case import Prompt
    from harness.measure.relations import Relation

Row = dict[str, Any]


def by_position(
    actual: Tensor, expected: Tensor, prompt: Prompt, site: str, *, relation: Relation, dtype: str
) -> Iterator[Row]:
    """Give a row per batch row and position, in the sense in which the sides are compared.

    Where one row stands for all, as GPT-2's positions do, there is one. A decoder's positions have
    no token of the prompt.

    Args:
        actual: The port's tensor [batch, pos, …], or [batch, head, query, key].
        expected: The reference's.
        prompt: What both were run on.
        site: Where the tensors were read.
        relation: In which sense they must agree.
        dtype: The cell's.
    """
    left, right, counts = entries(actual, expected, prompt, site, dtype=dtype)
    brought = brought_together(left, right, relation=relation, counts=counts)
    difference = _per_position(brought.actual - brought.expected, site)
    size = _per_position(brought.expected, site).norm(dim=-1)
    gap, largest = difference.norm(dim=-1), difference.abs().amax(dim=-1)
    counted = _per_position(counts.expand(left.shape), site).any(dim=-1)
    has_tokens = gap.shape[1] == len(prompt.tokens[0]) and not site.startswith("decoder_")
    for row, position in counted.nonzero().tolist():
        zero = not float(size[row, position])
        yield {
            "prompt_id": prompt.prompt_id,
            "site": site,
            "row": row,
            "position": position,
            "token": prompt.tokens[row][position] if has_tokens else None,
            "max_abs": float(largest[row, position]),
            "rel_l2": None if zero else float(gap[row, position] / size[row, position]),
        }


def _per_position(values: Tensor, site: str) -> Tensor:
    """Give [batch, pos, rest] of a site's layout; of a matrix of attention, by its queries."""
    if is_attention_matrix(site):
        values = values.transpose(1, 2)
    return torch.flatten(values, 2) if values.ndim > 2 else values[..., None]  # noqa: PLR2004
