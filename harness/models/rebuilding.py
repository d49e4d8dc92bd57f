"""A variant's reference built again with one config field changed, and the same weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from harness.errors import CheckpointError, Refused
from harness.models.ports.huggingface import TransformersRunner
from harness.models.ports.loading import load_model, spelled_for_this_release
from harness.models.sites import LOGITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from harness.case import Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.family import Family

transformers.utils.logging.set_verbosity_error()  # values that make no sense are the point here

Path = tuple[str, ...]
"""Where a field stands: its name, or for a nested one `("rope_parameters", "factor")`."""

ROPE: Final = "rope_parameters"
_ROPE_SPELLINGS: Final = frozenset(
    {
        "partial_rotary_factor",
        "rope_local_base_freq",
        "rope_scaling",
        "rope_theta",
        "rotary_emb_base",
        "rotary_pct",
    }
)
"""How transformers 4 and the hub spell what transformers 5 keeps in `rope_parameters`."""

NAMES: Final = frozenset(
    {
        "_name_or_path",
        "architectures",
        "dtype",
        "id2label",
        "is_encoder_decoder",
        "label2id",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "torch_dtype",
        "transformers_version",
    }
)
"""What a config says of the class, the files and the form of the output; no field of the model."""


def config_class(family: Family) -> Any:
    """Give the config class of a family."""
    return CONFIG_MAPPING[family.config["model_type"]]


def class_defaults(family: Family) -> dict[Path, Any]:
    """Give every field of a family's config class with its default."""
    return flat(config_class(family)().to_dict())


def spelled_once(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a config.json in which every field has one name: the class's own.

    Raises:
        CheckpointError: the class reads it otherwise than the config.json that it was.
    """
    kind = config_class(family)
    loaded = kind.from_dict(copy.deepcopy(dict(config))).to_dict()
    once = {kind.attribute_map.get(name, name): value for name, value in config.items()}
    if loaded.get(ROPE):
        once = {name: value for name, value in once.items() if name not in _ROPE_SPELLINGS}
        once[ROPE] = _without_type(loaded[ROPE])
    again = kind.from_dict(copy.deepcopy(once)).to_dict()
    loaded[ROPE] = once.get(ROPE, loaded.get(ROPE))
    if changed := sorted(name for name in once if again.get(name) != loaded.get(name)):
        message = (
            f"{family.name}: {kind.__name__} reads {', '.join(changed)} otherwise when each field "
            "is spelled once; next: see harness/models/rebuilding.py"
        )
        raise CheckpointError(message)
    return once


def _without_type(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out `type`, by which older files call the `rope_type` that stands beside it."""
    return {
        name: _without_type(value) if isinstance(value, dict) else value
        for name, value in rope.items()
        if not (name == "type" and "rope_type" in rope)
    }


def fields_of(family: Family, config: Mapping[str, Any]) -> dict[Path, Any]:
    """Give every field that the class or the config.json has, with the value the class reads."""
    loaded = config_class(family).from_dict(copy.deepcopy(dict(config))).to_dict()
    return {**flat(config), **flat(loaded)}


def flat(config: Mapping[str, Any]) -> dict[Path, Any]:
    """Give the fields of a config by where they stand; rotary and nested configs by their own."""
    found: dict[Path, Any] = {}
    for name, value in config.items():
        if name in NAMES:
            continue
        if isinstance(value, dict) and value:
            found |= {(name, *path): inner for path, inner in flat(value).items()}
        else:
            found[name,] = value
    return found


class Rebuilder:
    """One variant's weights, into which models of changed configs are built."""

    def __init__(self, family: Family, checkpoint: Checkpoint) -> None:
        """Load the variant's checkpoint in float64, to keep its parameters."""
        self.family = family
        self.config = spelled_once(family, checkpoint.config)
        model = load_model(family, checkpoint, dtype="exact", device="cpu", attention="eager")
        self._weights = dict(model.named_parameters())
        self._shapes = {name: value.shape for name, value in self._weights.items()}

    def logits(
        self, config: Mapping[str, Any], prompts: Sequence[Prompt], *, dtype: str
    ) -> list[Tensor] | None:
        """Give a config's logits [batch, pos, vocab] with these weights; None if they do not fit.

        Shapes are asked on the meta device first, since a class's default size may be a large one.

        Raises:
            Refused: transformers cannot build or run such a config.
        """
        try:
            with torch.device("meta"):
                empty = self._built(config, dtype)
            if {name: value.shape for name, value in empty.named_parameters()} != self._shapes:
                return None
            model = self._built(config, dtype)
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(self._weights[name])
            runner = TransformersRunner(self.family, model.eval(), norms={}, traces=())
            return [runner.run(prompt, [LOGITS])[LOGITS] for prompt in prompts]
        except Exception as error:  # each class has errors of its own for what makes no sense
            message = f"{self.family.name}: {type(error).__name__}: {error}"
            raise Refused(message) from error

    def _built(self, config: Mapping[str, Any], dtype: str) -> Any:
        loaded = config_class(self.family).from_dict(copy.deepcopy(dict(config)))
        arguments = spelled_for_this_release(dtype, loaded)
        model = getattr(transformers, self.family.auto_class).from_config(
            loaded, attn_implementation="eager", **arguments
        )
        head = model.get_output_embeddings()
        if config.get("tie_word_embeddings") is False and head is not None:
            # T5 ties its head in memory whatever the config says, until a file brings another.
            head.weight = torch.nn.Parameter(head.weight.detach().clone())
        return model


__all__ = [
    "NAMES",
    "ROPE",
    "Path",
    "Rebuilder",
    "class_defaults",
    "config_class",
    "fields_of",
    "flat",
    "spelled_once",
]
