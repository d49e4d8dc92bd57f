"""Builds a small model and runs it once: what a small config must stand."""

from __future__ import annotations

import copy
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from transformers.utils import logging

from harness.models.ports.asking import logits_of
from harness.models.shrinking.sizes import LENGTH, N_SPECIAL, VOCABULARY
from harness.models.text_config import vocabulary_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

LARGEST: Final = 3_000_000
"""Parameters above which a config has not become small. They are counted on the meta device."""
_BATCH: Final = 2
_LENGTHS: Final = (LENGTH, 1, 7)
"""Prompts of one token are asked too, and of a length that no window divides."""


def runs(config: Any, auto_class: str) -> tuple[int, frozenset[str]]:
    """Build a config and run it once; give its number of parameters and its modules' classes.

    Raises:
        ValueError: it is too large, or what it gives are no finite logits of its tokens.
    """
    build = getattr(transformers, auto_class).from_config
    with quiet():
        parameters = parameters_of(config, auto_class)
        with seeded():
            model = build(config, attn_implementation="eager").eval()
        config.architectures = [type(model).__name__]
        for length in _LENGTHS:
            run_once(model, length)
    return parameters, classes_in(model)


def classes_in(model: Any) -> frozenset[str]:
    """Name the classes of a model's modules."""
    return frozenset(type(module).__name__ for module in model.modules())


def parameters_of(config: Any, auto_class: str) -> int:
    """Give the number of a loaded config's parameters, which are counted on the meta device.

    Raises:
        ValueError: there are too many to be built in earnest.
    """
    with torch.device("meta"):
        empty = getattr(transformers, auto_class).from_config(
            copy.deepcopy(config), attn_implementation="eager"
        )
    parameters: int = sum(parameter.numel() for parameter in empty.parameters())
    if parameters > LARGEST:
        name, largest = max(empty.named_parameters(), key=lambda each: each[1].numel())
        raise ValueError(f"{parameters} parameters, of which {name} {tuple(largest.shape)}")
    return parameters


def run_once(model: Any, length: int = LENGTH) -> Tensor:
    """Run a model on a few tokens and give their logits [batch, pos, vocab].

    Raises:
        ValueError: what it gives are no finite logits of these tokens, or it raises.
    """
    try:
        return _run(model, length)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"on a prompt of {length} token(s): {said}") from error


def _run(model: Any, length: int) -> Tensor:
    vocabulary = vocabulary_size(model.config.to_dict()) or VOCABULARY
    places = torch.arange(_BATCH * length).view(_BATCH, length)
    tokens = places * 3 % max(min(64, vocabulary - N_SPECIAL), 1) + min(N_SPECIAL, vocabulary - 1)
    inputs = {"input_ids": tokens}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = tokens
    with torch.no_grad():
        logits = logits_of(model(**inputs))
    if tuple(logits.shape[:2]) != (_BATCH, length) or not bool(logits.isfinite().all()):
        raise ValueError(f"logits {tuple(logits.shape)} are not one finite row for each token")
    return logits


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what a release says of a class's own defaults, or of small sizes, from the user."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def seeded() -> Iterator[None]:
    """Seed torch's generator, so that a model starts with the same numbers; put it back after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield
