"""Whether a config asks for a model of about the size that its files hold, before one is built.

A kilobyte of files can ask for a terabyte of model: whoever builds it would run out of memory, or
of time, long before the weights are found not to fit.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from safetensors import safe_open

from harness.errors import CheckpointError, HarnessError
from harness.models.architectures import record_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.case import Case
    from harness.models.checkpoints.folder import Checkpoint

_SIZE: Final = re.compile(
    r"\w*(vocab|hidden|intermediate|emb|embd|embed|ffn|inner|head|proj)_(size|dim)"
    r"|d_(model|ff|kv|inner|head)|n_(embd|inner|layers?|heads?)|(\w+_)?(layers|heads|experts)"
)
"""Names of fields that count what is stored: each unit of one has a number of its own in a tensor.
Lengths and windows are none, since rotary models store nothing for them."""
_LAYERS: Final = re.compile(r"n_layers?|(\w+_)?layers")
_ANY_LAYERS: Final = 1000
"""Layers that may be asked for whatever is stored: a model whose layers share their weights has
few tensors, and 1000 empty layers are built in seconds."""
_PACKED: Final = 16
"""How many parameters one stored number may hold: 4-bit weights are packed 8 in an int32. Of 378
honest folders (all synthetic variants, 256 shrunk architectures) none asks for more than 1.04."""
_SMALL: Final = 10_000_000
"""Parameters that may be asked for whatever is stored: 80 MB in float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """How many tensors a checkpoint's files hold, and how many numbers."""

    tensors: int
    numbers: int


def stored_in(checkpoint: Checkpoint) -> Stored:
    """Count what the files hold, read off their headers."""
    tensors = numbers = 0
    for file in checkpoint.path.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                tensors += 1
                numbers += math.prod(opened.get_slice(name).get_shape())
    return Stored(tensors=tensors, numbers=numbers)


def check_sizes(case: Case, checkpoint: Checkpoint) -> None:
    """Refuse a config that asks for a far larger model than its files hold.

    Fields are looked at first; then the model is built without memory (on torch's device `meta`)
    and its parameters are counted. A config that cannot be built is told of where it is loaded.

    Raises:
        CheckpointError: a field, or the sum of all parameters, is beyond what is stored.
    """
    stored = stored_in(checkpoint)
    for name, value in _sizes(checkpoint.config):
        allowed = stored.numbers
        if _LAYERS.fullmatch(name):
            allowed = max(_ANY_LAYERS, stored.tensors)
        if value > allowed:
            message = (
                f"{checkpoint.path}: config.json says {name}={value}, and its files hold "
                f"{stored.numbers} numbers in {stored.tensors} tensors, so at most {allowed} could "
                "be true; fetch config and weights of one model"
            )
            raise CheckpointError(message)
    asked, allowed = _parameters(case, checkpoint), _PACKED * stored.numbers + _SMALL
    if asked > allowed:
        message = (
            f"{checkpoint.path}: config.json asks for a model of {asked} parameters, and its files "
            f"hold {stored.numbers}, with which at most {allowed} are built; fetch config and "
            "weights of one model"
        )
        raise CheckpointError(message)


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _sizes(value)
        elif isinstance(value, int) and _SIZE.fullmatch(name):
            yield name, value


def _parameters(case: Case, checkpoint: Checkpoint) -> int:
    """Count the parameters that a config asks for; 0 where transformers does not build it."""
    try:
        config = transformers.AutoConfig.from_pretrained(
            checkpoint.path, local_files_only=True, trust_remote_code=False
        )
        auto_class = getattr(transformers, record_of(case, checkpoint).auto_class)
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong is told of where it is loaded
            model = auto_class.from_config(config, trust_remote_code=False)
    except (
        HarnessError,
        ArithmeticError,
        AttributeError,
        ImportError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ):
        return 0
    return sum(parameter.numel() for parameter in model.parameters())
