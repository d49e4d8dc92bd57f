"""The columns of a delta that say how far two tensors are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from harness.measure.compare import kl_nats, top1_agreement
from harness.models.sites import LOGITS

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    from harness.case import Prompt
    from harness.measure.compare import Comparison

Row = dict[str, Any]

_NUMBERS: Final = ("max_abs", "mean_abs", "rms", "rel_l2", "cosine", "raw_max_abs", "shift_abs")


def numbers(found: Comparison) -> Row:
    """Give the columns of a comparison at any site."""
    return {
        **{name: getattr(found, name) for name in _NUMBERS},
        "mean_port": found.mean_actual,
        "mean_reference": found.mean_expected,
        "std_port": found.std_actual,
        "std_reference": found.std_expected,
        "nonfinite": found.nonfinite,
        "worst_index": ",".join(map(str, found.worst_index)),
    }


def logit_numbers(
    site: str, actual: Tensor, expected: Tensor, real: Bool[Tensor, "batch pos"]
) -> Row:
    """Give the columns that only logits have, over the positions that are real."""
    if site != LOGITS:
        return {"kl_nats": None, "top1_agreement": None}
    if torch.equal(actual, expected) and bool(expected.isfinite().all()):
        return {"kl_nats": 0.0, "top1_agreement": 1.0}
    left, right = actual[real], expected[real]
    return {"kl_nats": kl_nats(left, right), "top1_agreement": top1_agreement(left, right)}


def real_positions(prompt: Prompt, device: torch.device) -> Bool[Tensor, "batch pos"]:
    """Say which positions of a prompt are not padding."""
    return torch.tensor(prompt.attention_mask, dtype=torch.bool, device=device)
