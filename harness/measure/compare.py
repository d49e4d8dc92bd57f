"""Two tensors and a relation in, one Comparison out. Pure: nothing is decided here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.measure import kernels

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
    brought, wanted = sides.brought_together(relation)
    left, right = sides.sums_of_left, sides.sums_of_right
    found = kernels.gap(kernels.flat(brought), kernels.flat(wanted))
    raw_max, taken_out = found.largest, 0.0
    size, length = right.square, left.square
    if relation.kind != "equal":
        size, length = (kernels.sums(kernels.flat(side)).square for side in (wanted, brought))
        raw_max = kernels.gap(kernels.flat(sides.left), kernels.flat(sides.right)).largest
        taken_out = _largest((brought - sides.left) - (wanted - sides.right))
    n_unpaired, worst = 0, found.worst
    if sides.unpaired is not None and (n_unpaired := int(sides.unpaired.sum())):
        # What has no equal is infinitely far, so that the worst index points at it.
        worst = int(sides.unpaired.flatten().int().argmax())
    number = max(sides.number, 1)
    return Comparison(
        max_abs=math.inf if n_unpaired else found.largest,
        mean_abs=math.inf if n_unpaired else found.total / number,
        rms=math.inf if n_unpaired else math.sqrt(found.square / number),
        rel_l2=math.inf if n_unpaired else _ratio(math.sqrt(found.square), math.sqrt(size)),
        cosine=_cosine(found.inner, size, length),
        mean_actual=left.total / number,
        mean_expected=right.total / number,
        std_actual=left.std(number),
        std_expected=right.std(number),
        raw_max_abs=math.inf if n_unpaired else raw_max,
        shift_abs=taken_out,
        nonfinite=sides.nonfinite,
        unpaired=n_unpaired,
        worst_index=_place(worst, counts.shape),
        compared=sides.number,
    )


def identical(
    actual: Float[Tensor, "*shape"],
    expected: Float[Tensor, "*shape"],
    counts: Bool[Tensor, "*shape"],
    *,
    sums: kernels.Sums | None = None,
) -> Comparison | None:
    """Give `compare(…)` of two tensors that are equal to the bit, at a fraction of its cost.

    None where they are not, or where not all of their values are finite. `sums` are those of the
    values that count, where they are known.
    """
    if not torch.equal(actual, expected):
        return None
    every = is_every(counts)
    number = counts.numel() if every else int(counts.sum())
    found = sums
    if found is None:
        used = actual.expand(counts.shape)
        found = kernels.sums(kernels.flat(used if every else used[counts]))
    if not number or not math.isfinite(found.square):
        return None
    mean, std = found.total / number, found.std(number)
    return Comparison(
        max_abs=0.0,
        mean_abs=0.0,
        rms=0.0,
        rel_l2=0.0,
        cosine=1.0 if found.square else None,
        mean_actual=mean,
        mean_expected=mean,
        std_actual=std,
        std_expected=std,
        raw_max_abs=0.0,
        shift_abs=0.0,
        nonfinite=0,
        unpaired=0,
        worst_index=(0,) * counts.ndim,
        compared=number,
    )


def relative_distance(
    actual: Float[Tensor, "*shape"],
    expected: Float[Tensor, "*shape"],
    *,
    relation: Relation,
    counts: Bool[Tensor, "*shape"],
    size: float | None = None,
) -> float:
    """Give `compare(…).rel_l2` alone, at a fraction of its cost.

    `size` is the square of the expected tensor's norm, where it is known.

    Raises:
        ValueError: the shapes do not fit, or no entry counts.
    """
    if relation.kind == "equal" and actual.shape == expected.shape and is_every(counts):
        right = kernels.flat(expected)
        square = kernels.square_of_gap(kernels.flat(actual), right)
        size = kernels.sums(right).square if size is None else size
        if math.isfinite(square + size):
            return _ratio(math.sqrt(square), math.sqrt(size))
    sides = _prepared(actual, expected, counts)
    if sides.unpaired is not None and bool(sides.unpaired.any()):
        return math.inf
    brought, wanted = map(kernels.flat, sides.brought_together(relation))
    square, size = kernels.square_of_gap(brought, wanted), kernels.sums(wanted).square
    return _ratio(math.sqrt(square), math.sqrt(size))


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
    brought, wanted = sides.brought_together(relation)
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
    """Both tensors, zero where they are not used; None for a mask: all, or none."""

    left: Tensor
    right: Tensor
    used: Tensor | None
    unpaired: Tensor | None
    nonfinite: int
    number: int
    sums_of_left: kernels.Sums
    sums_of_right: kernels.Sums

    def brought_together(self, relation: Relation) -> tuple[Tensor, Tensor]:
        """Give both with the relation's part taken out; in float64 where it takes any."""
        if relation.kind == "equal":
            return self.left, self.right
        return relation.bring_together(self.left.double(), self.right.double(), self.used)


def effective_number(values: Tensor, counts: Tensor) -> float:
    """Give how many of the values that count carry the norm; what is not finite has no part."""
    if is_every(counts) and (found := kernels.effective_number(kernels.flat(values))):
        return found
    return kernels.effective_number(kernels.flat(values[counts & values.isfinite()]))


def is_every(counts: Tensor) -> bool:
    """Say whether all entries count, as one value spread over the shape says at no cost."""
    return counts.numel() > 0 and not any(counts.stride()) and bool(counts[(0,) * counts.ndim])


def _prepared(actual: Tensor, expected: Tensor, counts: Tensor) -> _Sides:
    if not _fit(actual.shape, expected.shape, counts.shape):
        message = f"shapes: actual {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        raise ValueError(message)
    every = is_every(counts)
    if not every and not bool(counts.any()):
        message = "no entry counts: there is nothing to compare"
        raise ValueError(message)
    actual, expected = actual.expand(counts.shape), expected.expand(counts.shape)
    if every or bool(counts.all()):
        sums = [kernels.sums(kernels.flat(side)) for side in (actual, expected)]
        if math.isfinite(sums[0].square + sums[1].square):
            return _Sides(
                left=actual,
                right=expected,
                used=None,
                unpaired=None,
                nonfinite=0,
                number=counts.numel(),
                sums_of_left=sums[0],
                sums_of_right=sums[1],
            )
    finite = actual.isfinite() & expected.isfinite()
    used = counts & finite
    left, right = (torch.where(used, side.double(), 0.0) for side in (actual, expected))
    # Infinities that stand on both sides with one sign are reported; NaN equals nothing.
    return _Sides(
        left=left,
        right=right,
        used=used,
        unpaired=counts & ~finite & (actual != expected),
        nonfinite=int((counts & ~finite).sum()),
        number=int(used.sum()),
        sums_of_left=kernels.sums(kernels.flat(left)),
        sums_of_right=kernels.sums(kernels.flat(right)),
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


def _cosine(inner: float, one: float, other: float) -> float | None:
    return inner / math.sqrt(one) / math.sqrt(other) if one and other else None


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
