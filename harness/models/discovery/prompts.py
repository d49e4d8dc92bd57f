"""The two short prompts on which sites are found and confirmed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.models.text_config import text_part, vocabulary_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.models.discovery.recording import Recording

_BATCH: Final = 2
_LENGTH: Final = 7  # divided by no window or chunk: who pads the prompt is seen
_STEP: Final = 7  # prime: tokens differ within and between prompts


def inputs_of(model: Any, number: int) -> dict[str, Any]:
    """Give a model's arguments for one of the prompts; no special token stands in it."""
    config = model.config
    special = {
        getattr(part, f"{name}_token_id", None)
        for part in (config, text_part(config))
        for name in ("pad", "bos", "eos", "unk")
    }
    size = vocabulary_size(config.to_dict())
    ordinary = [token for token in range(min(size, 4096)) if token not in special]
    count = _BATCH * _LENGTH
    chosen = [
        ordinary[(_STEP * (place + number * count)) % len(ordinary)] for place in range(count)
    ]
    device = next(model.parameters()).device
    tokens = torch.tensor(chosen, device=device).view(_BATCH, _LENGTH)
    inputs: dict[str, Any] = {"input_ids": tokens}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens.flip(-1)
    # A cache that is empty yet would stand between keys and their projection.
    if "use_cache" in inspect.signature(model.forward).parameters:
        inputs["use_cache"] = False
    return inputs


def tokens_of(recording: Recording, inputs: Mapping[str, Any]) -> frozenset[int]:
    """Give the values that are the tokens, laid out otherwise at most."""
    found = {
        number
        for number, tensor in enumerate(recording.tensors)
        if any(tensor is value for value in inputs.values())
    }
    for operation in recording.operations:
        if (
            operation.name in {"view", "reshape", "clone", "_to_copy", "detach", "alias"}
            and set(operation.inputs) & found
        ):
            found.update(operation.outputs)
    return frozenset(found)
