"""Save and load: what is written down comes back as it was."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from packaging.version import Version

from harness.errors import CheckpointError, Refused, Unavailable
from harness.measure.probes.model import Owed
from harness.measure.references import numerics_of
from harness.models.checkpoints.folder import open_folder
from harness.models.ports import load_port
from harness.models.ports.huggingface import TransformersRunner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from harness.case import Prompt
    from harness.measure.probes.model import Model

TIED: Final = "tied"
WEIGHTS: Final = "weights"
CONFIG: Final = "config"
"""What is held beside the sites: which weights are one tensor, what they are, what the config says;
of the last two, those that differ are named one by one."""

# What a config says of where it comes from and how it was loaded, not of numbers.
_OF_LOADING: Final = re.compile("_.*|transformers_version|(torch_)?dtype|architectures")


def save_load(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Save the model, load it again: the same weights to the last bit, the same tied, and numbers.

    `save_pretrained` and `from_pretrained` rename, fuse, split and tie what they write and read,
    each release in its own way, and both make the numbers that the config leaves out. A tensor that
    is lost or left over is an error that names it. Numbers may be rounded otherwise: tensors lie
    elsewhere in memory, where products of matrices take other paths.

    In a gate the release that is newer must load what the older one saved, too: files outlive
    releases. The other way round nobody owes anything, and nothing is asked.
    """
    runner = model.runner
    if not isinstance(runner, TransformersRunner):
        message = f"{model.cell.mode.port} has no save_pretrained of its own"
        raise Refused(message)
    if not runner.family.is_native:
        message = f"{runner.family.name}'s module is the authors' own, not loaded by transformers"
        raise Refused(message)
    with place_for(model) as folder:
        runner.model.save_pretrained(folder)
        copy = loaded_from(folder, model)
    says, said = config_of(copy), config_of(runner)
    same = {f"{CONFIG}.{name}": says.get(name) == said.get(name) for name in {*says, *said}}
    yield from held("saved and loaded", copy, runner, model, prompt, of_config=named(same, CONFIG))
    for version, folder in saved_by_older(model).items():
        copy = loaded_from(folder, model)
        check = f"saved by transformers {version}"
        yield from held(check, copy, runner, model, prompt, of_config={})


def held(
    check: str,
    copy: TransformersRunner,
    runner: TransformersRunner,
    model: Model,
    prompt: Prompt,
    *,
    of_config: Mapping[str, Tensor],
) -> Iterator[Owed]:
    """Hold a copy against the model that it is a copy of: what is written, then the numbers."""
    first, second = runner.model, copy.model
    weights = dict(first.named_parameters(remove_duplicate=False))
    same = {
        f"{WEIGHTS}.{name}": torch.equal(found, weights[name])
        for name, found in second.named_parameters(remove_duplicate=False)
    }
    written = {**of_config, **named(same, WEIGHTS)}
    yield Owed(
        check=check,
        actual={TIED: tied(second), **written},
        expected={TIED: tied(first), **{name: torch.ones(1) for name in written}},
        bitwise=True,
    )
    yield Owed(
        check=check,
        actual=replace(model, runner=copy).run(prompt, sites=model.sites),
        expected=model.plain(prompt),
    )


def named(same: Mapping[str, bool], together: str) -> dict[str, Tensor]:
    """Give a 1 for all if all are the same, or else a 0 by the name of each that is not."""
    other = {name: torch.zeros(1) for name in sorted(same) if not same[name]}
    return other or {together: torch.ones(1)}


@contextmanager
def place_for(model: Model) -> Iterator[Path]:
    """Give the folder to save to: in the exchange if there is one, or else for now alone."""
    if model.exchange is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
    else:
        folder = model.exchange / model.cell.id / installed("transformers")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def saved_by_older(model: Model) -> dict[str, Path]:
    """Give the folders that older releases of transformers left in the exchange, by version."""
    if model.exchange is None:
        return {}
    folders = {folder.name: folder for folder in (model.exchange / model.cell.id).iterdir()}
    own = Version(installed("transformers"))
    return {name: folder for name, folder in folders.items() if Version(name) < own}


def loaded_from(folder: Path, model: Model) -> TransformersRunner:
    """Load a saved model as the one at hand was loaded.

    Raises:
        CheckpointError: tensors are missing or extra, or the folder cannot be read, or is refused.
    """
    with numerics_of(model.cell.dtype):
        try:
            found = load_port(model.cell, open_folder(folder))
        except Unavailable as refusal:  # it supports the model: this is what it has just saved
            message = f"what was saved is not loaded again: {refusal}"
            raise CheckpointError(message) from refusal
    if not isinstance(found, TransformersRunner):
        raise TypeError(found)
    return found


def tied(model: nn.Module) -> Tensor:
    """Say of each parameter [name] whether it is one tensor with another name's."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    found = [id(weights[name]) for name in sorted(weights)]
    return torch.tensor([float(found.count(each) > 1) for each in found])


def config_of(runner: TransformersRunner) -> dict[str, Any]:
    """Give what a model's config says of numbers."""
    said: Mapping[str, Any] = runner.model.config.to_dict()
    return {name: value for name, value in said.items() if not _OF_LOADING.fullmatch(name)}
