"""Which text architectures the installed transformers has, and the class that builds each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import transformers
from transformers.models.auto import modeling_auto

from harness.case import OFF_DEFAULT, SHRUNK
from harness.errors import CheckpointError, Refused
from harness.models.families import FAMILIES
from harness.models.family import Family

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.case import Case
    from harness.models.checkpoints import Checkpoint

DEFAULT: Final = "default"

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "causal": ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    "seq2seq": ("AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    "masked": ("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
}
"""How a text is modelled: the class that builds such models, and its list of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model type and a kind that the library has it in.

    `variant` names the kind in cells: `default` for the first that the type has. `off_default` is
    the variant in which flips of its config are joined: with the kind before it, but for the first.
    """

    model_type: str
    kind: str
    variant: str
    class_name: str

    @property
    def auto_class(self) -> str:
        """Name the class by which transformers builds the model."""
        return KINDS[self.kind][0]

    @property
    def off_default(self) -> str:
        """Name the variant of flipped fields."""
        return OFF_DEFAULT if self.variant == DEFAULT else f"{self.variant}_{OFF_DEFAULT}"

    @property
    def variants(self) -> tuple[str, str]:
        """Name both variants that there is a tiny checkpoint of."""
        return (self.variant, self.off_default)


def architectures() -> tuple[Architecture, ...]:
    """Give every text architecture of the installed transformers, by model type."""
    return tuple(sorted(_architectures(), key=lambda each: (each.model_type, each.kind)))


def _architectures() -> Iterator[Architecture]:
    seen: set[str] = set()
    classes: set[tuple[str, str]] = set()
    for kind in KINDS:
        for model_type, class_name in _classes(kind).items():
            if (model_type, class_name) in classes:
                continue  # the same class, listed in two kinds
            yield Architecture(
                model_type=model_type,
                kind=kind,
                variant=kind if model_type in seen else DEFAULT,
                class_name=class_name,
            )
            seen.add(model_type)
            classes.add((model_type, class_name))


def _classes(kind: str) -> dict[str, str]:
    named = getattr(modeling_auto, KINDS[kind][1])
    return {
        model_type: names if isinstance(names, str) else names[0]
        for model_type, names in named.items()
    }


def architecture_of(model_type: str, variant: str) -> Architecture | None:
    """Look up an architecture by the names that a cell has for it; either of its variants."""
    for each in _architectures():
        if each.model_type == model_type and variant in each.variants:
            return each
    return None


def auto_class_of(config: Mapping[str, Any]) -> str:
    """Name the class that builds a config.json's model, by the architecture that it states.

    Raises:
        CheckpointError: it states none, or one that no list of text models has.
    """
    stated = (config.get("architectures") or [""])[0]
    for kind, (auto_class, _) in KINDS.items():
        if stated in _classes(kind).values():
            return auto_class
    # What a user has registered stands in no list by its name.
    for auto_class, _ in KINDS.values():
        if stated in {model.__name__ for model in _registered(auto_class).values()}:
            return auto_class
    message = (
        f"config.json states the architecture {stated!r}, which transformers "
        f"{transformers.__version__} lists under no text model\n"
        "  next:    import the module that registers it, or try another release"
    )
    raise CheckpointError(message)


def kinds_of(config_class: type) -> dict[str, str]:
    """Give the kinds that a config class is modelled by, registered ones too, and their classes."""
    model_type = getattr(config_class, "model_type", "")
    return {
        kind: registered.__name__ if registered is not None else _classes(kind)[model_type]
        for kind, (auto_class, _) in KINDS.items()
        if (registered := _registered(auto_class).get(config_class)) is not None
        or model_type in _classes(kind)
    }


def known_types() -> tuple[str, ...]:
    """Give every model type with a text model, those that the user's modules registered too."""
    registered = {config.model_type for auto, _ in KINDS.values() for config in _registered(auto)}
    return tuple(sorted({each.model_type for each in _architectures()} | registered))


def _registered(auto_class: str) -> dict[Any, Any]:
    """Give what was registered by hand: from config classes to the models' classes."""
    mapping = getattr(transformers, auto_class)._model_mapping  # noqa: SLF001 - no other way to ask
    return dict(getattr(mapping, "_extra_content", {}))


def record_of(case: Case, checkpoint: Checkpoint) -> Family:
    """Give the family's record: the hand-written one, or one that is found by the model itself.

    A hand-written record speaks of one class; of a type's other ones (BERT as a decoder, Gemma 3
    with eyes) the sites are found. So are those of flipped configs, which may have other modules.

    Raises:
        Refused: a shrunk checkpoint is of an architecture that this release lacks.
    """
    written = None if case.is_flipped else FAMILIES.get(case.family)
    if written is not None and case.checkpoint != SHRUNK:
        return written
    if (
        written is not None
        and written.config["architectures"] == checkpoint.config["architectures"]
    ):
        return written
    try:
        return automatic(case.family, auto_class_of(checkpoint.config))
    except CheckpointError as error:
        if case.checkpoint != SHRUNK:
            raise
        (stated,) = checkpoint.config["architectures"]
        message = f"transformers {transformers.__version__} has no {stated}"
        raise Refused(message) from error


def automatic(name: str, auto_class: str) -> Family:
    """Give a record that names nothing: its sites are found once the model is loaded."""
    return Family(
        name=name,
        config={},
        taps={},
        stacks=(),
        auto_class=auto_class,
        causal=auto_class != KINDS["masked"][0],
        automatic=True,
    )


__all__ = [
    "KINDS",
    "Architecture",
    "architecture_of",
    "architectures",
    "auto_class_of",
    "automatic",
    "kinds_of",
    "known_types",
    "record_of",
]
