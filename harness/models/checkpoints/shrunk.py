"""Shrunk checkpoints: a tiny twin of any architecture, every parameter drawn by its name.

What a model starts a parameter with says what it is for: gains start at one (or at zero, where the
norm multiplies by 1 + weight), biases at zero, decays at their own values. So each is drawn around
where it starts, and far enough from it that a port that forgets it is seen.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from safetensors.torch import save_file

from harness.coverage import as_json, flips_from
from harness.errors import SelectionError, Unavailable
from harness.models.architectures import architecture_of, auto_class_of
from harness.models.checkpoints.folder import Checkpoint, cached
from harness.models.checkpoints.synthetic import as_saved, draw, noise_of, write_tokenizer
from harness.models.shrinking import experiment, quiet, seeded, tiny_of_type
from harness.models.text_config import vocabulary_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from harness.coverage import Flips
    from harness.models.architectures import Architecture
    from harness.models.shrinking import Tiny

GENERATOR_VERSION: Final = 6
"""Raised by whoever changes what a shrunk checkpoint becomes, so that old caches are left alone."""

FLIPS: Final = "variants.json"
"""Says beside a checkpoint what flipping each field does, and which flips it joins."""

_SPREAD: Final = 0.3
_LEAST: Final = 0.1
"""How far each number is drawn from its start at least, of a spread: bfloat16 keeps it apart."""


def build(model_type: str, variant: str) -> Checkpoint:
    """Give the cached tiny checkpoint of an architecture of the installed transformers.

    Raises:
        SelectionError: this release has no such architecture.
        Unavailable: no small config of it builds and runs, or, of `off_default`, no flip of one
            changes its logits.
    """
    found = _architecture(model_type, variant)
    if variant == found.off_default:
        return cached(_named(model_type, variant), lambda folder: _write_flipped(folder, found))
    return cached(
        _named(model_type, variant),
        lambda folder: write(folder, _tiny(found).config),
    )


def flips_of(model_type: str, variant: str) -> Flips:
    """Give what flipping an architecture's fields does; the experiment is made once, and kept.

    Raises:
        SelectionError: this release has no such architecture.
        Unavailable: no small config of it builds and runs.
    """
    found = _architecture(model_type, variant)
    return flips_from((_experimented(found).path / FLIPS).read_text())


def _architecture(model_type: str, variant: str) -> Architecture:
    found = architecture_of(model_type, variant)
    if found is None:
        message = f"transformers {transformers.__version__} has no {model_type} as {variant}"
        raise SelectionError(message)
    return found


def _named(model_type: str, variant: str, what: str = "shrunk") -> str:
    """Name a folder in the cache, by all that what is in it depends on."""
    key = json.dumps([GENERATOR_VERSION, transformers.__version__, model_type, variant])
    return f"{model_type}-{variant}-{what}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _tiny(found: Architecture) -> Tiny:
    """Give an architecture's small config. A failure is remembered, since each cell asks again."""
    tiny = _tiny_or_why(found.model_type, found.auto_class)
    if isinstance(tiny, str):
        raise Unavailable(tiny)
    return tiny


@functools.cache
def _tiny_or_why(model_type: str, auto_class: str) -> Tiny | str:
    try:
        return tiny_of_type(model_type, auto_class)
    except Unavailable as error:
        return str(error)


def _experimented(found: Architecture) -> Checkpoint:
    """Give the cached folder with an architecture's flips, and the config that joins them."""

    def make(folder: Path) -> None:
        flips, config = experiment(_tiny(found), found.auto_class, draw=drawn)
        (folder / FLIPS).write_text(as_json(flips))
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))

    return cached(_named(found.model_type, found.off_default, "flips"), make)


def _write_flipped(folder: Path, found: Architecture) -> None:
    """Write the checkpoint of a small config's joined flips, and beside it what was found.

    Raises:
        Unavailable: no flip changes the logits.
    """
    kept = _experimented(found)
    flips = flips_from((kept.path / FLIPS).read_text())
    if not flips.joined:
        said = f"none of the {flips.tried} fields that can be flipped changes its logits"
        raise Unavailable(f"{found.model_type}: {said}")
    (folder / FLIPS).write_text(as_json(flips))
    write(folder, kept.config)


def write(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a tiny config's checkpoint into an empty folder: config, weights and a tokenizer."""
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    write_tokenizer(folder, vocabulary_size(config))
    tensors = dict(_drawn_or_computed(folder, config))
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


def _started(folder: Path, config: Any) -> Any:
    """Give the model as transformers starts it."""
    loaded = transformers.AutoConfig.from_pretrained(folder)
    with seeded(), quiet():
        return getattr(transformers, auto_class_of(config)).from_config(loaded)


def _drawn_or_computed(folder: Path, config: Any) -> Iterator[tuple[str, Tensor]]:
    """Give a checkpoint's tensors, drawn; tables that the model never learns as it makes them.

    RoFormer's sines and MiniMax's decays are such: drawn, they would not rotate, and read ahead.
    """
    model = _started(folder, config)
    computed = {
        *(name for name, buffer in model.named_buffers() if buffer.ndim > 1),
        *(name for name, weight in model.named_parameters() if _is_table(weight)),
    }
    for name, initial in as_saved(model):
        yield name, initial if name in computed else drawn(name, initial)


def _is_table(weight: Tensor) -> bool:
    return weight.ndim > 1 and not weight.requires_grad
