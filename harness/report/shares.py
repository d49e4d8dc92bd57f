"""What is judged of a delta, by what is allowed: one number for all dtypes, above 1 it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.case import EXACT

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float


def shares_of(deltas: pd.DataFrame) -> Float[np.ndarray, "row"]:
    """Give rel_l2 (in exact mode, and where not one bit may differ) or error ratio, by its bound.

    What is no number has no share, and is infinitely far.
    """
    exact = deltas["dtype"].astype(str) == EXACT
    bitwise = deltas.bound == 0.0
    judged = np.where(exact | bitwise, deltas.rel_l2, deltas.error_ratio)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = judged / deltas.bound.to_numpy()
    share = np.where(bitwise, np.where(judged == 0.0, 0.0, np.inf), share)
    return np.where(np.isnan(share), np.inf, share)
