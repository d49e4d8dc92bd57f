"""By which logits a mixture chose its experts, whatever a release's router gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from packaging.version import Version

if TYPE_CHECKING:
    from torch import Tensor, nn


def routers_give_logits() -> bool:
    """Say whether routers that are modules of their own give their logits back, first of all.

    Those of transformers 5.0 to 5.5 give probabilities by that name, and gpt_oss's of
    transformers 4 scores and indices only.
    """
    return Version(transformers.__version__) >= Version("5.6.0")


def routed_by(router: nn.Module, hidden: Tensor, output: Any) -> Tensor:
    """Give the logits [token, expert] by which a router chose, from its input and its output.

    A router that does not give them back is a linear map, whose product is made once more.
    """
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    if isinstance(output, tuple) and not routers_give_logits():
        parameters = dict(router.named_parameters(recurse=False))
        flat = hidden.reshape(-1, hidden.shape[-1])
        return torch.nn.functional.linear(flat, parameters["weight"], parameters.get("bias"))
    return logits
