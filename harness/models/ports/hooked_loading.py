"""Loads TransformerLens' legacy classes as their users do, from a checkpoint folder and offline."""

from __future__ import annotations

import contextlib
import importlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import transformers

from harness.case import Processing
from harness.errors import Refused
from harness.models.families import FAMILIES
from harness.models.ports.hooked_sites import DECODER, ENCODER, Places, places_of
from harness.models.ports.lens import quiet, refusals
from harness.models.ports.loading import TORCH_DTYPES, load_model
from harness.models.ports.official import fit, official_of
from harness.models.texts import tokenizer_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.case import Cell
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports.official import Official

# The words with which it refuses a model or a mode (transformer_lens 2.9 to 3.9).
_REFUSALS: Final = (
    "is not currently supported",
    "not found. Valid official model names",
    "must be one of",  # an activation
    "You can't refactor",
)
_REVISION: Final = "0" * 40  # a commit of the hub, in the layout of its cache


def load_hooked(cell: Cell, checkpoint: Checkpoint) -> tuple[Any, Any]:
    """Give the model that `from_pretrained` makes of a checkpoint, and the checkpoint's config.

    Raises:
        Refused: TransformerLens has no such model, or does not do the mode with it.
        CheckpointError: the weights do not fit the config.
    """
    places = places_of(cell.case.family)
    official = official_of(cell.case.family, cell.case.variant)
    if places is not DECODER and cell.mode.processing != Processing():
        message = f"{places.model} processes no weights; it is measured as hooked_no_processing"
        raise Refused(message)
    family = FAMILIES[cell.case.family]
    model = load_model(family, checkpoint, dtype=cell.dtype, device=cell.device, attention="eager")
    if places is ENCODER:
        model = _with_both_heads(model)
    tokenizer = tokenizer_of(checkpoint)
    with quiet(), refusals(_REFUSALS), _taken_for(official, checkpoint) as (name, cache):
        hooked = _class_of(places).from_pretrained(
            name,
            hf_model=model,
            tokenizer=tokenizer,
            dtype=TORCH_DTYPES[cell.dtype],
            device=cell.device,
            cache_dir=str(cache),
            local_files_only=True,
            **(cell.mode.processing.flags() if places is DECODER else {}),
        )
    return hooked.eval(), model.config


def _class_of(places: Places) -> Any:
    import transformer_lens  # noqa: PLC0415 - takes seconds

    return getattr(transformer_lens, places.model)


def _with_both_heads(model: Any) -> Any:
    """Give BERT as HookedEncoder wants it, with the head that tells the next sentence.

    The checkpoint has no such head; nothing that is compared reads it.
    """
    both = transformers.BertForPreTraining(model.config).to(model.dtype)
    both.load_state_dict(model.state_dict(), strict=False)
    return both.eval().to(model.device)


@contextlib.contextmanager
def _taken_for(official: Official, checkpoint: Checkpoint) -> Iterator[tuple[str, Path]]:
    """Have TransformerLens take the checkpoint for an official model.

    Its config is found in a cache of the hub that holds nothing else; sizes that TransformerLens
    knows by the name, and cannot know here, are put in between its two steps of loading.
    """
    loading = importlib.import_module("transformer_lens.loading_from_pretrained")
    name = loading.get_official_model_name(official.name)
    convert = loading.get_pretrained_model_config

    def converted(*args: Any, **kwargs: Any) -> Any:
        cfg = convert(*args, **kwargs)
        fit(cfg, official, checkpoint.config)
        return cfg

    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch.object(loading, "get_pretrained_model_config", converted),
    ):
        repository = Path(cache) / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / _REVISION
        snapshot.mkdir(parents=True)
        config = {**official.config, **checkpoint.config}
        (snapshot / "config.json").write_text(json.dumps(config))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(_REVISION)
        yield name, Path(cache)
