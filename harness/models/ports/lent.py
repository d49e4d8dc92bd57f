"""A reference in true float64 that has no weights of its own: each module borrows its own in turn.

Where float64 does not fit beside the models under test, the oracle's modules are built without
weights. As each runs it is lent its parameters by the reference, widened to float64, and gives them
back; so that never more than one module's are there. The numbers are those of a model that holds
them all: widening is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
import transformers

from harness.case import EXACT
from harness.errors import Refused, Unavailable
from harness.exact import true_float64
from harness.models.ports.asking import PLAIN, model_inputs
from harness.models.ports.huggingface import TransformersRunner
from harness.models.ports.loading import config_of, spelled_for_this_release

if TYPE_CHECKING:
    from torch import Tensor

    from harness.case import Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports.asking import Asking


class Widened(Mapping[str, "Tensor"]):
    """A model's parameters by name, each in float64 from when it is asked for."""

    def __init__(self, model: Any) -> None:
        """Look the names up; tied parameters have several."""
        self._parameters = dict(model.named_parameters(remove_duplicate=False))

    def __getitem__(self, name: str) -> Tensor:
        """Give one, widened."""
        widened: Tensor = self._parameters[name].detach().double()
        return widened

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._parameters)

    def __len__(self) -> int:
        """Give how many names there are."""
        return len(self._parameters)


class LentRunner(TransformersRunner):
    """A runner whose model has its weights lent; what reads a weight asks the lender."""

    lender: TransformersRunner

    def affine_of(self, site: str) -> tuple[Tensor, Tensor]:
        """Give gain and bias of the norm at a site, each [d_model], as float64."""
        return self.lender.affine_of(site)

    def inputs(self, prompt: Prompt, asking: Asking = PLAIN) -> dict[str, Tensor]:
        """Give the model's arguments on the CPU: a module without weights names no device."""
        device = torch.device("cpu")
        return model_inputs(self.family, self.model.config, prompt, device, asking)


def lent(lender: TransformersRunner, checkpoint: Checkpoint) -> LentRunner:
    """Give the same model in true float64, to run on the CPU with the lender's weights.

    Raises:
        Unavailable: accelerate, which lends and takes back, is not installed.
        Refused: the architecture has a parameter that the lender has not.
    """
    try:
        from accelerate import init_empty_weights  # noqa: PLC0415 - for large models alone
        from accelerate.hooks import attach_align_device_hook  # noqa: PLC0415 - the same
    except ImportError as error:
        message = "float64 does not fit in memory, and its blocks need accelerate: pip install it"
        raise Unavailable(message) from error
    family = lender.family
    weights = Widened(lender.model)
    with true_float64(), init_empty_weights(include_buffers=False):
        config = config_of(checkpoint, "eager")
        model = getattr(transformers, family.auto_class).from_config(
            config, attn_implementation="eager", **spelled_for_this_release(EXACT, config)
        )
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    if names.symmetric_difference(weights):
        odd = ", ".join(sorted(names.symmetric_difference(weights))[:6])
        message = f"{checkpoint.path}: built without weights it has other parameters: {odd}"
        raise Refused(message)
    own = dict(model.named_buffers())
    with torch.no_grad():
        for name, buffer in lender.model.named_buffers():
            if name in lender.model.state_dict() and name in own:
                own[name].copy_(buffer)
    attach_align_device_hook(
        model.eval(), execution_device=torch.device("cpu"), offload=True, weights_map=weights
    )
    runner = LentRunner(family, model, norms=lender.norms)
    runner.lender = lender
    return runner
