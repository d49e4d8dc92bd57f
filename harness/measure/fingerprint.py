"""Fingerprints: what is kept of an activation, so that a later version can be compared with it.

A digest says whether anything changed; norm, mean and std say what it looks like; a linear sketch
says by how much it moved. The sketch is a CountSketch: each value is added, with a random sign, to
one of 37 buckets. It is linear, sketch(a) - sketch(b) = sketch(a - b), and the norm of a sketch
estimates the norm of what was sketched without bias in its square, by the signs alone; its standard
error is 1/sqrt(2 × 37) = 11.6 % where the buckets share the square evenly (Charikar, Chen,
Farach-Colton 2002; Thorup and Zhang 2012). They would be chosen at random; here value i goes to
bucket i mod 37, at a twentieth of the cost, since no channel's stride is a multiple of 37. Sums
over prompts are sketches of all prompts laid end to end.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from harness.measure.compare import is_every
from harness.measure.kernels import BUCKETS, Sums, print_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from numpy.typing import NDArray
    from torch import Tensor

    from harness.measure.relations import Relation

Row = dict[str, Any]

STANDARD_ERROR: Final = 1 / math.sqrt(2 * BUCKETS)
"""Relative standard error of a sketch's norm as an estimate of the norm of what was sketched."""


def _short_hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What is kept of one site's activation on one prompt, zero where it does not count.

    Of its values `number` count; `masked` are masked out by the model itself; `nonfinite` count
    and are not finite, and stand as zero.
    """

    digest: int
    sums: Sums
    sketch: NDArray[np.float64] | None
    number: int
    masked: int = 0
    nonfinite: int = 0

    @property
    def sums_if_finite(self) -> Sums | None:
        """Give the sums, where they are of all values that count."""
        return None if self.nonfinite else self.sums

    @property
    def square_if_finite(self) -> float | None:
        """Give the square of the norm, likewise."""
        return None if self.nonfinite else self.sums.square


def printed(
    values: Float[Tensor, "*shape"],
    *,
    number: int,
    masked: int = 0,
    nonfinite: int = 0,
    seed: str | None = None,
) -> Printed:
    """Give what is kept of values that are zero where they do not count.

    A seed, by `seed_of`, asks for their sketch.
    """
    found = print_of(values, seed=seed)
    return Printed(
        digest=found.digest,
        sums=found.sums,
        sketch=found.sketch,
        number=number,
        masked=masked,
        nonfinite=nonfinite,
    )


def printed_alone(
    values: Float[Tensor, "*shape"],
    counts: Bool[Tensor, "*shape"],
    relation: Relation,
    *,
    seed: str,
) -> Printed:
    """Give what is kept of one tensor, in the coordinates in which `compare` sees it."""
    if is_every(counts):
        plain = values if relation.kind == "equal" else relation.bring(values.double(), None)
        found = printed(plain, number=values.numel(), seed=seed)
        if math.isfinite(found.sums.square):
            return found
    values = values.double()
    used = counts & values.isfinite()
    values = torch.where(used, values, 0.0)
    number, n_counting = int(used.sum()), int(counts.sum())
    return printed(
        relation.bring(values, used),
        number=number,
        masked=values.numel() - n_counting,
        nonfinite=n_counting - number,
        seed=seed,
    )


def seed_of(site: str, prompt_id: str, values: Float[Tensor, "*shape"]) -> str:
    """Give the seed of a sketch: equal for what later versions are to be compared at."""
    return f"{site}|{prompt_id}|{tuple(values.shape)}"


@dataclass(slots=True, kw_only=True)
class Fingerprint:
    """The fingerprint of one site over several prompts, filled prompt by prompt."""

    digests: list[int] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    projections: list[float] = field(default_factory=list)
    sketch: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BUCKETS))
    difference: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BUCKETS))
    number: int = 0
    total: float = 0.0
    masked: int = 0
    nonfinite: int = 0

    def add(self, found: Printed, *, difference: NDArray[np.float64] | None = None) -> None:
        """Add a prompt's activation, and the sketch of its distance from the reference's if any."""
        self.digests.append(found.digest)
        self.norms.append(math.sqrt(found.sums.square))
        if found.sketch is not None:
            self.sketch += found.sketch
            self.projections.append(float(found.sketch.sum()))
        if difference is not None:
            # Infinities of both signs have no sum, and what is too large none either: both say so.
            with np.errstate(invalid="ignore", over="ignore"):
                self.difference += difference
        self.number += found.number
        self.total += found.sums.total
        self.masked += found.masked
        self.nonfinite += found.nonfinite

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
