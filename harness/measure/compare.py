"""Two tensors and a relation in, one Comparison out. Pure: nothing is decided here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float
    from torch import Tensor

    from harness.measure.relations import Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How far an actual tensor is from an expected one, in the sense of a relation.

    Distances are in the tensors' own units, over the entries that count; `rel_l2` and `cosine`
    have none. `shift_abs` is the largest part that the relation took out, `raw_max_abs` the
    largest difference with nothing taken out. `unpaired` counts entries that are not finite on
    one side only or are NaN: such a comparison can never pass.
    """

    max_abs: float
    mean_abs: float
    rms: float
    rel_l2: float
    cosine: float | None
    mean_actual: float
    mean_expected: float
    std_actual: float
    std_expected: float
    raw_max_abs: float
    shift_abs: float
    nonfinite: int
    unpaired: int
    worst_index: tuple[int, ...]
    compared: int


def compare(
    actual: Float[Tensor, "*shape"],
    expected: Float[Tensor, "*shape"],
    *,
    relation: Relation,
    counts: Bool[Tensor, "*shape"],
) -> Comparison:
    """Compare in float64 the entries that count, after the relation has taken its part out.

    Args:
        actual: The port's tensor, any float dtype.
        expected: The reference's tensor; dimensions of size 1 broadcast.
        relation: In which sense they must agree.
        counts: Which entries count (padding and masked scores do not).

    Raises:
        ValueError: the shapes do not fit, or no entry counts.
    """
    sides = _prepared(actual, expected, counts)
    left, right, used = sides.left, sides.right, sides.used
    brought, wanted = relation.bring_together(left, right, used)
    difference = brought - wanted
    raw_max, taken_out = _largest(difference), 0.0
    if relation.kind != "equal":
        raw_max = _largest(left - right)
        taken_out = _largest((brought - left) - (wanted - right))

    # What has no equal is infinitely far, so that the worst index points at it.
    distance = difference.abs()
    if sides.unpaired is not None:
        distance = distance.masked_fill(sides.unpaired, math.inf)
    n_unpaired = 0 if sides.unpaired is None else int(sides.unpaired.sum())
    number = max(sides.number, 1)
    size, length, gap = float(wanted.norm()), float(brought.norm()), float(difference.norm())
    inner = float(torch.dot(brought.flatten(), wanted.flatten()))
    return Comparison(
        max_abs=float(distance.max()),
        mean_abs=float(distance.sum()) / number,
        rms=math.inf if n_unpaired else gap / math.sqrt(number),
        rel_l2=math.inf if n_unpaired else _ratio(gap, size),
        cosine=inner / (size * length) if size and length else None,
        mean_actual=float(left.sum()) / number,
        mean_expected=float(right.sum()) / number,
        std_actual=_std(left, used, number),
        std_expected=_std(right, used, number),
        raw_max_abs=math.inf if n_unpaired else raw_max,
        shift_abs=taken_out,
        nonfinite=sides.nonfinite,
        unpaired=n_unpaired,
        worst_index=_place(int(distance.argmax()), counts.shape),
        compared=sides.number,
    )


def identical(
    actual: Float[Tensor, "*shape"],
    expected: Float[Tensor, "*shape"],
    counts: Bool[Tensor, "*shape"],
) -> Comparison | None:
    """Give `compare(…)` of two tensors that are equal to the bit, at a fraction of its cost.

    None where they are not, or where not all of their values are finite.
    """
    if not torch.equal(actual, expected) or not bool(actual.sum().isfinite()):
        return None
    used = actual.expand(counts.shape)[counts].double()
    mean, std = float(used.mean()), float(used.std(correction=0))
    return Comparison(
        max_abs=0.0,
        mean_abs=0.0,
        rms=0.0,
        rel_l2=0.0,
        cosine=1.0 if bool(used.any()) else None,
        mean_actual=mean,
        mean_expected=mean,
        std_actual=std,
        std_expected=std,
        raw_max_abs=0.0,
        shift_abs=0.0,
        nonfinite=0,
        unpaired=0,
        worst_index=(0,) * counts.ndim,
        compared=used.numel(),
    )


def relative_distance(
    actual: Float[Tensor, "*shape"],
    expected: Float[Tensor, "*shape"],
    *,
    relation: Relation,
    counts: Bool[Tensor, "*shape"],
) -> float:
    """Give `compare(…).rel_l2` alone, at a fraction of its cost.

    Raises:
        ValueError: the shapes do not fit, or no entry counts.
    """
    sides = _prepared(actual, expected, counts)
    if sides.unpaired is not None and bool(sides.unpaired.any()):
        return math.inf
    brought, wanted = relation.bring_together(sides.left, sides.right, sides.used)
    return _ratio(float((brought - wanted).norm()), float(wanted.norm()))


def brought_together(
    actual: Float[Tensor, "*shape"],
    expected: Float[Tensor, "*shape"],
    *,
    relation: Relation,
    counts: Bool[Tensor, "*shape"],
) -> Brought:
    """Give both sides in the coordinates in which `compare` sees them.

    Raises:
        ValueError: the shapes do not fit, or no entry counts.
    """
    sides = _prepared(actual, expected, counts)
    brought, wanted = relation.bring_together(sides.left, sides.right, sides.used)
    return Brought(actual=brought, expected=wanted, number=sides.number, nonfinite=sides.nonfinite)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """Both sides in float64, the relation taken out, zero where they are not compared."""

    actual: Tensor
    expected: Tensor
    number: int
    nonfinite: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """Both tensors in float64, zero where they are not used; None for a mask: all, or none."""

    left: Tensor
    right: Tensor
    used: Tensor | None
    unpaired: Tensor | None
    nonfinite: int
    number: int


def _prepared(actual: Tensor, expected: Tensor, counts: Tensor) -> _Sides:
    if not _fit(actual.shape, expected.shape, counts.shape):
        message = f"shapes: actual {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        raise ValueError(message)
    # One value spread over the shape says that all entries count, at no cost.
    every = counts.numel() > 0 and not any(counts.stride()) and bool(counts[(0,) * counts.ndim])
    if not every and not bool(counts.any()):
        message = "no entry counts: there is nothing to compare"
        raise ValueError(message)
    actual = actual.double().expand(counts.shape)
    expected = expected.double().expand(counts.shape)
    if (every or bool(counts.all())) and bool((actual.sum() + expected.sum()).isfinite()):
        return _Sides(
            left=actual,
            right=expected,
            used=None,
            unpaired=None,
            nonfinite=0,
            number=counts.numel(),
        )
    finite = actual.isfinite() & expected.isfinite()
    used = counts & finite
    # Infinities that stand on both sides with one sign are reported; NaN equals nothing.
    return _Sides(
        left=torch.where(used, actual, 0.0),
        right=torch.where(used, expected, 0.0),
        used=used,
        unpaired=counts & ~finite & (actual != expected),
        nonfinite=int((counts & ~finite).sum()),
        number=int(used.sum()),
    )


def _place(number: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Give the indices of an entry of its number in row-major order (torch.unravel_index, fast)."""
    indices: list[int] = []
    for size in reversed(shape):
        number, index = divmod(number, size)
        indices.append(index)
    return tuple(reversed(indices))


def _largest(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, math.inf))


def kl_nats(actual: Float[Tensor, "token vocab"], expected: Float[Tensor, "token vocab"]) -> float:
    """Give KL(expected ‖ actual) of logits, in nats, mean per token (not per vocabulary entry)."""
    want = expected.double().log_softmax(-1)
    got = actual.double().log_softmax(-1)
    return float((want.exp() * (want - got)).sum(-1).mean())


def top1_agreement(
    actual: Float[Tensor, "token vocab"], expected: Float[Tensor, "token vocab"]
) -> float:
    """Give the share of tokens whose largest logit is the same one."""
    return float((actual.argmax(-1) == expected.argmax(-1)).double().mean())


def _fit(actual: torch.Size, expected: torch.Size, counts: torch.Size) -> bool:
    if actual == expected:
        return actual == counts
    try:
        fitting: torch.Size = torch.broadcast_shapes(actual, expected)
    except RuntimeError:  # torch says so where two sizes differ and neither is 1
        return False
    return fitting == counts


def _ratio(gap: float, size: float) -> float:
    if size == 0.0:
        return 0.0 if gap == 0.0 else math.inf
    return gap / size


def _std(values: Tensor, used: Tensor | None, number: int) -> float:
    if used is None:
        return float(values.std(correction=0))
    mean = values.sum() / number
    return float(torch.where(used, values - mean, 0.0).norm()) / math.sqrt(number)
