"""Fingerprints: what is kept of an activation, so that a later version can be compared with it.

A digest says whether anything changed; norm, mean and std say what it looks like; a linear sketch
says by how much it moved. The sketch is a CountSketch: each value is added, with a random sign, to
one of 32 random buckets. It is linear, sketch(a) - sketch(b) = sketch(a - b), and the norm of a
sketch estimates the norm of what was sketched without bias in its square; its standard error is
1/sqrt(2 × 32) = 12.5 % (Charikar, Chen, Farach-Colton 2002; Thorup and Zhang 2012). Sums over
prompts are sketches of all prompts laid end to end.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray
    from torch import Tensor

Row = dict[str, Any]

BUCKETS: Final = 32
STANDARD_ERROR: Final = 1 / math.sqrt(2 * BUCKETS)
"""Relative standard error of a sketch's norm as an estimate of the norm of what was sketched."""

_SEED: Final = 20021101
_TABLE: Final = (1 << 20) + 7  # a prime; longer tensors go through the table again
_SIGN_BIT: Final = 32


@lru_cache(maxsize=1)
def _table() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give bucket and sign of each place. Philox's raw numbers are the same in every numpy."""
    raw = np.random.Philox(_SEED).random_raw(_TABLE)
    buckets = (raw % BUCKETS).astype(np.int64)
    signs = np.where((raw >> np.uint64(_SIGN_BIT)) & np.uint64(1), 1.0, -1.0)
    return buckets, signs


def sketch(values: Float[Tensor, "*shape"], *, seed: str) -> NDArray[np.float64]:
    """Give the 32 buckets of a tensor, taken as float64; equal seeds give comparable sketches."""
    flat = values.detach().double().cpu().contiguous().numpy().ravel()
    buckets, signs = _table()
    start = int.from_bytes(_short_hash(seed.encode()), "little") % _TABLE
    places = (np.arange(start, start + flat.size)) % _TABLE
    signed = signs[places] * flat
    return np.bincount(buckets[places], weights=signed, minlength=BUCKETS).astype(np.float64)


def digest_of(values: Float[Tensor, "*shape"]) -> int:
    """Give a 64-bit digest of shape and values; -0.0 is 0.0."""
    flat = np.ascontiguousarray(values.detach().double().cpu().numpy()) + 0.0
    content = repr(flat.shape).encode() + flat.tobytes()
    return int.from_bytes(_short_hash(content), "little", signed=True)


def _short_hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


@dataclass(slots=True, kw_only=True)
class Fingerprint:
    """The fingerprint of one site over several prompts, filled prompt by prompt."""

    seed: str
    prompt_ids: list[str] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    projections: list[float] = field(default_factory=list)
    sketch: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BUCKETS))
    difference: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BUCKETS))
    number: int = 0
    total: float = 0.0
    masked: int = 0
    nonfinite: int = 0

    def add(
        self,
        values: Float[Tensor, "*shape"],
        *,
        prompt_id: str,
        number: int,
        masked: int = 0,
        nonfinite: int = 0,
        sketched: bool = True,
        difference: Float[Tensor, "*shape"] | None = None,
    ) -> None:
        """Add a prompt's activation, zero where it does not count.

        Args:
            values: The activation, in the coordinates in which sides are compared.
            prompt_id: The prompt's id.
            number: How many of the values count.
            masked: How many are masked out by the model itself.
            nonfinite: How many of those that count are not finite; zero in `values`.
            sketched: Whether the values themselves are sketched.
            difference: The port's distance from the reference, if that is to be sketched.
        """
        seed = f"{self.seed}|{prompt_id}|{tuple(values.shape)}"
        self.prompt_ids.append(prompt_id)
        self.digests.append(digest_of(values))
        self.norms.append(float(values.norm()))
        if sketched:
            found = sketch(values, seed=seed)
            self.sketch += found
            self.projections.append(float(found.sum()))
        if difference is not None:
            with np.errstate(invalid="ignore"):  # infinities of both signs have no sum; NaN says so
                self.difference += sketch(difference, seed=seed)
        self.number += number
        self.total += float(values.sum())
        self.masked += masked
        self.nonfinite += nonfinite

    def row(self) -> Row:
        """Give the columns that all sides have."""
        norm = math.sqrt(sum(size * size for size in self.norms))
        number = max(self.number, 1)
        mean = self.total / number
        whole = repr([self.digests, self.masked, self.nonfinite]).encode()
        return {
            "digest": int.from_bytes(_short_hash(whole), "little", signed=True),
            "norm": norm,
            "mean_value": mean,
            "std_value": math.sqrt(max(norm * norm / number - mean * mean, 0.0)),
            "n_values": self.number,
            "masked": self.masked,
            "nonfinite": self.nonfinite,
        }
