"""Shrunk checkpoints: a tiny twin of any architecture, every parameter drawn by its name.

What a model starts a parameter with says what it is for: gains start at one (or at zero, where the
norm multiplies by 1 + weight), biases at zero, decays at their own values. So each is drawn around
where it starts, and far enough from it that a port that forgets it is seen.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from safetensors.torch import save_file

from harness.errors import SelectionError
from harness.models.architectures import architecture_of, auto_class_of
from harness.models.checkpoints.folder import Checkpoint, cached
from harness.models.checkpoints.synthetic import as_saved, draw, noise_of, write_tokenizer
from harness.models.shrinking import Tiny, quiet, seeded, tiny_of_type
from harness.models.text_config import vocabulary_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

GENERATOR_VERSION: Final = 5
"""Raised by whoever changes what a shrunk checkpoint becomes, so that old caches are left alone."""

_SPREAD: Final = 0.3
_LEAST: Final = 0.1
"""How far each number is drawn from its start at least, of a spread: bfloat16 keeps it apart."""


def build(model_type: str, variant: str) -> Checkpoint:
    """Give the cached tiny checkpoint of an architecture of the installed transformers.

    Raises:
        SelectionError: this release has no such architecture.
        Unavailable: no small config of it builds and runs.
    """
    found = architecture_of(model_type, variant)
    if found is None:
        message = f"transformers {transformers.__version__} has no {model_type} as {variant}"
        raise SelectionError(message)
    key = json.dumps([GENERATOR_VERSION, transformers.__version__, model_type, variant])
    name = f"{model_type}-{variant}-shrunk-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return cached(name, lambda folder: write(folder, tiny_of_type(model_type, found.auto_class)))


def write(folder: Path, tiny: Tiny) -> None:
    """Write a tiny config's checkpoint into an empty folder: config, weights and a tokenizer."""
    (folder / "config.json").write_text(json.dumps(tiny.config, indent=2, sort_keys=True))
    write_tokenizer(folder, vocabulary_size(tiny.config))
    tensors = {name: drawn(name, initial) for name, initial in _initial(folder, tiny.config)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def drawn(name: str, initial: Tensor) -> Tensor:
    """Draw a parameter by its name around what it starts with, in numbers that bfloat16 holds."""
    if not initial.is_floating_point():
        return initial
    constant = initial.numel() > 0 and bool((initial == initial.flatten()[0]).all())
    if initial.ndim > 1 and not name.endswith("A_log") and not (constant and initial.any()):
        return draw(name, tuple(initial.shape), norm_offset=False)
    noise = noise_of(name, tuple(initial.shape))
    away = torch.where(noise < 0, noise.clamp(max=-_LEAST), noise.clamp(min=_LEAST))
    values = initial.float() + _SPREAD * away
    return values.bfloat16().half().float()


def _initial(folder: Path, config: Any) -> Iterator[tuple[str, Tensor]]:
    """Give the tensors with which transformers starts the model, as it saves them on the hub."""
    loaded = transformers.AutoConfig.from_pretrained(folder)
    with seeded(), quiet():
        model = getattr(transformers, auto_class_of(config)).from_config(loaded)
    yield from as_saved(model)
