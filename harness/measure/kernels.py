"""What is read off one tensor, or off two, in one pass: block by block, while a block is in cache.

All sums are float64. A bandwidth is a budget: on tensors of a real model these passes cost as much
as they touch memory (`make bench`, comparison kernels), so that nothing is read twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float, Shaped
    from numpy.typing import NDArray
    from torch import Tensor

BUCKETS: Final = 37
"""A prime: neighbours go to different buckets, and so does a channel at different positions."""

BLOCK: Final = BUCKETS * 886
"""Values in a block: 256 KiB as float64, which a core's own cache holds beside another block."""

_SEED: Final = 20021101
_TABLE: Final = (1 << 20) + 7  # a prime; longer tensors go through the table again
_SIGN_BIT: Final = 32
_NATIVE: Final = {torch.float32, torch.float64}


# Infinity and NaN say by themselves that a sum is too large, or that infinities have no difference.
_silent: Final = np.errstate(over="ignore", invalid="ignore")


@dataclass(slots=True, kw_only=True)
class Sums:
    """What one tensor is by itself. `square` is finite only if every value is."""

    total: float = 0.0
    square: float = 0.0

    def std(self, number: int) -> float:
        """Give the standard deviation of so many values."""
        mean = self.total / number
        return math.sqrt(max(self.square / number - mean * mean, 0.0))


@dataclass(slots=True, kw_only=True)
class Gap:
    """How far two tensors are apart, value by value; `worst` is a place in row-major order."""

    square: float = 0.0
    total: float = 0.0
    largest: float = -1.0
    worst: int = 0
    inner: float = 0.0


def flat(tensor: Shaped[Tensor, "*shape"]) -> NDArray[np.floating]:
    """Give a tensor's values in row-major order: as they are, or as float64 if numpy has no such.

    What lies on an accelerator is fetched.
    """
    tensor = tensor.detach()
    if tensor.dtype not in _NATIVE:
        tensor = tensor.double()
    values: NDArray[np.floating] = tensor.cpu().contiguous().numpy().reshape(-1)
    return values


def _blocks(values: NDArray[np.floating]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, values.size, BLOCK):
        yield values[start : start + BLOCK].astype(np.float64, copy=False)


@lru_cache(maxsize=1)
def _ones() -> NDArray[np.float64]:
    return np.ones(BLOCK)


@_silent
def sums(values: NDArray[np.floating]) -> Sums:
    """Give the sum of values and of their squares."""
    found = Sums()
    for block in _blocks(values):
        found.total += float(block.dot(_ones()[: block.size]))
        found.square += float(block.dot(block))
    return found


@_silent
def effective_number(values: NDArray[np.floating]) -> float:
    """Give how many values carry the norm: (Σx²)² / Σx⁴, the participation ratio, from 1 to all.

    0 where there is none, or no finite one.
    """
    square = fourth = 0.0
    for block in _blocks(values):
        squared = block * block
        square += float(squared.dot(_ones()[: block.size]))
        fourth += float(squared.dot(squared))
    found = square * square / fourth if fourth else 0.0
    return found if math.isfinite(found) else 0.0


@_silent
def gap(actual: NDArray[np.floating], expected: NDArray[np.floating]) -> Gap:
    """Give all that a comparison says of the difference of two tensors of one size."""
    found = Gap()
    for number, (left, right) in enumerate(zip(_blocks(actual), _blocks(expected), strict=True)):
        difference = left - right
        found.square += float(difference.dot(difference))
        found.inner += float(left.dot(right))
        np.abs(difference, out=difference)
        found.total += float(difference.dot(_ones()[: difference.size]))
        place = int(difference.argmax())
        if not difference[place] <= found.largest:  # NaN, which argmax finds first, is the largest
            found.largest, found.worst = float(difference[place]), number * BLOCK + place
    return found


@_silent
def square_of_gap(actual: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Give `gap(…).square` alone."""
    square = 0.0
    for left, right in zip(_blocks(actual), _blocks(expected), strict=True):
        difference = left - right
        square += float(difference.dot(difference))
    return square


@lru_cache(maxsize=1)
def _signs() -> NDArray[np.float64]:
    """Give the sign of each place. Philox's raw numbers are the same in every numpy."""
    raw = np.random.Philox(_SEED).random_raw(_TABLE)
    signs = np.where((raw >> np.uint64(_SIGN_BIT)) & np.uint64(1), 1.0, -1.0)
    return np.concatenate([signs, signs[:BLOCK]])  # so that a block at its end needs no join


@dataclass(slots=True, kw_only=True)
class Print:
    """What is kept of a tensor: a digest of its values, their sums, and a sketch if asked."""

    digest: int
    sums: Sums
    sketch: NDArray[np.float64] | None


@_silent
def print_of(values: Float[Tensor, "*shape"], *, seed: str | None) -> Print:
    """Give what is kept of a tensor, in one pass. Without a seed there is no sketch.

    The digest is of shape and values: -0.0 is 0.0, and equal values of two dtypes are equal.
    """
    hashed, found = xxhash.xxh3_64(repr(tuple(values.shape)).encode()), Sums()
    buckets = None if seed is None else np.zeros(BUCKETS)
    place = 0 if seed is None else _start_of(seed)
    for block in _blocks(flat(values)):
        hashed.update((block + 0.0).data)
        found.total += float(block.dot(_ones()[: block.size]))
        found.square += float(block.dot(block))
        if buckets is not None:
            _add_to(buckets, block, place % _TABLE)
            place += block.size
    digest = hashed.intdigest()
    return Print(
        digest=digest - (1 << 64) if digest >> 63 else digest,  # int64, as columns have it
        sums=found,
        sketch=buckets,
    )


@_silent
def sketch(values: Float[Tensor, "*shape"], *, seed: str) -> NDArray[np.float64]:
    """Give the buckets of a tensor, taken as float64; equal seeds give comparable sketches."""
    buckets, place = np.zeros(BUCKETS), _start_of(seed)
    for block in _blocks(flat(values)):
        _add_to(buckets, block, place % _TABLE)
        place += block.size
    return buckets


def _start_of(seed: str) -> int:
    return int(xxhash.xxh3_64_intdigest(seed.encode()) % _TABLE)


def _add_to(buckets: NDArray[np.float64], block: NDArray[np.float64], place: int) -> None:
    signed = block * _signs()[place : place + block.size]
    rows = block.size // BUCKETS
    if rows:
        buckets += _ones()[:rows] @ signed[: rows * BUCKETS].reshape(rows, BUCKETS)
    rest = signed[rows * BUCKETS :]
    buckets[: rest.size] += rest
