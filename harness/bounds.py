"""What is allowed, and where each number comes from."""

from __future__ import annotations

import math
from typing import Final

EXACT_BOUND: Final = 1e-11
"""Largest rel_l2 in exact mode. Right ports lie below 1e-12 (docs/bounds.md, by `harness bounds`);
a bias element moved by 1e-4 lies at 1e-6 and above. There is nothing to tune in between."""

ERROR_RATIO_BOUND: Final = {"float32": 4.0, "bfloat16": 4.0, "float16": 4.0}
"""Largest error ratio of a right port, by dtype. Source: docs/bounds.md, by `harness bounds`."""

REFACTORED_BOUND: Final = 6.0
"""The same under `refactor_factored_attn_matrices`, whose weights pass through singular value
decompositions in float32. Source: docs/bounds.md."""

ONE_ROUNDING: Final = 0.2124
"""Root mean square relative error of one correct rounding, in units of the dtype's epsilon.

The error is uniform within half a unit in the last place, 1/sqrt(12) of it in the root mean
square; over mantissas spread evenly in the logarithm, E[1/m²] = 3/(8 ln 2), so that
sqrt(3/(8 ln 2) / 12) = 0.2124. It stands in where the reference's own error is smaller.
"""

EPSILON: Final = {
    "exact": 2.0**-52,
    "float32": 2.0**-23,
    "bfloat16": 2.0**-7,
    "float16": 2.0**-10,
}
"""Distance from 1 to the next number: torch.finfo(dtype).eps."""

LOWEST: Final = {
    "exact": -(2.0 - 2.0**-52) * 2.0**1023,
    "float32": -(2.0 - 2.0**-23) * 2.0**127,
    "bfloat16": -(2.0 - 2.0**-7) * 2.0**127,
    "float16": -65504.0,
}
"""The lowest finite number: torch.finfo(dtype).min."""


def bound_for(dtype: str, *, refactored: bool) -> float:
    """Give the largest rel_l2 allowed in exact mode, or the largest error ratio in a dtype."""
    if dtype == "exact":
        return EXACT_BOUND
    return REFACTORED_BOUND if refactored else ERROR_RATIO_BOUND[dtype]


CHANCE: Final = 4.753
"""Standard normal quantile at 1 - 1e-6: a clean row exceeds its chance factor once in a million."""


def chance_factor(values: float) -> float:
    """Give how far chance alone may take the root mean square of so few rounding errors.

    `values` are those that carry the norm (docs/decisions/0026-few-values-may-carry-a-norm.md).
    Of independent Gaussian errors, the mean square over n values exceeds the expected one by
    chi²_n's quantile over n; here at one in a million, by Wilson and Hilferty's approximation
    (Proc. Natl. Acad. Sci. 17, 1931). 2.96 for 4 values, 1.54 for 50, 1.02 for 20 000.
    """
    spread = 2.0 / (9.0 * max(values, 1))  # where no value is finite there is no chance either
    return math.sqrt((1.0 - spread + CHANCE * math.sqrt(spread)) ** 3)


def error_floor(dtype: str) -> float:
    """Give the relative error of one correct rounding in the dtype."""
    return ONE_ROUNDING * EPSILON[dtype]


def masked_below(dtype: str) -> float:
    """Give the score below which an attention score stands for "masked out".

    Libraries add or fill the dtype's lowest value, or minus infinity. CodeGen divides by the root
    of the head's size behind that: by 16 in its checkpoints, by 2.9 in the shrunk one. In float16
    only the latter is told from a score: real ones may come near -4000.
    """
    return LOWEST[dtype] / (4 if dtype == "float16" else 32)
