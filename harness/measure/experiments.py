"""Which config fields change the reference's numbers, and which of them some variant exercises.

A field matters if changing it alone, with the same weights, changes the logits of some variant
in exact mode, or its parameters, or how bfloat16 rounds. A variant exercises it if the variant
states another value than the class's default, and leaving it out changes the same.
"""

from __future__ import annotations

import functools
import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.bounds import EXACT_BOUND
from harness.case import EXACT, Case
from harness.coverage import Field
from harness.errors import Refused
from harness.exact import true_float64
from harness.measure.changes import changed, others, pool_of, without
from harness.measure.prompts import Vocabulary, bank
from harness.models.checkpoints import checkpoint_of
from harness.models.families import FAMILIES
from harness.models.rebuilding import (
    NAMES,
    Rebuilder,
    class_defaults,
    fields_of,
    flat,
    spelled_once,
)
from harness.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from torch import Tensor

    from harness.coverage import Effect
    from harness.measure.changes import Pool
    from harness.models.family import Family
    from harness.models.rebuilding import Path

_ROUNDED: Final = "bfloat16"
_PROMPTS: Final = ("bank:longest", "bank:special_tokens", "bank:left_padding")
"""Past every window and original length; each special token; positions that do not start at 0."""
_FEW: Final = 2
"""Changes tried in each variant after the default one, where all were tried."""
_SHOWN: Final = 60  # characters of a value


def coverage_of(
    family: Family, *, step: Callable[[str], None], names: Collection[str] = ()
) -> list[Field]:
    """Find what each config field of a family does, and which variant exercises it.

    `step` is called with each field's name before its experiments; `names` are the fields asked
    for, without a word all of them.
    """
    one_thread()  # as a run does
    specimens = list(_specimens(family))
    defaults = class_defaults(family)
    found = []
    for path in dict.fromkeys(path for specimen in specimens for path in specimen.fields):
        name = ".".join(path)
        if names and name not in names:
            continue
        step(name)
        found.append(_field(family, path, specimens, defaults))
    return found


@functools.cache
def _pool() -> Pool:
    """Gather what any family's record gives to fields, by their names."""
    return pool_of(
        [
            fields_of(family, spelled_once(family, family.variant_config(variant)))
            for family in FAMILIES.values()
            if family.is_native
            for variant in family.variant_names
        ]
    )


class _Specimen:
    """A variant, or one with its per-layer lists left out, and what it gives unchanged."""

    def __init__(
        self, rebuilder: Rebuilder, name: str, config: Mapping[str, Any], *, derived: bool
    ) -> None:
        self.name = name
        self.config = config
        self.derived = derived
        self.fields = fields_of(rebuilder.family, config)
        self._rebuilder = rebuilder
        vocabulary = Vocabulary.of(dict(config), padding=True)
        self._prompts = [prompt for prompt in bank(vocabulary) if prompt.origin in _PROMPTS]
        self._unchanged: dict[str, list[Tensor]] = {}

    def effect_of(self, config: Mapping[str, Any], *, rounding: bool) -> Effect:
        """Say what another config does with these weights; `undecided` where it raises.

        `rounding`: where exact mode shows nothing, ask in bfloat16 too.
        """
        found: Effect = "undecided"
        for dtype in (EXACT, _ROUNDED) if rounding else (EXACT,):
            try:
                logits = self._logits(config, dtype)
            except Refused:
                continue
            if logits is None:
                return "parameters"
            if not _same(logits, self.unchanged(dtype), dtype):
                return "logits" if dtype == EXACT else "rounding"
            found = "none"
        return found

    def unchanged(self, dtype: str) -> list[Tensor]:
        """Give the logits of the specimen itself."""
        if dtype not in self._unchanged:
            found = self._logits(self.config, dtype)
            if found is None:
                message = f"{self.name}: the config does not build its own checkpoint"
                raise RuntimeError(message)
            self._unchanged[dtype] = found
        return self._unchanged[dtype]

    def _logits(self, config: Mapping[str, Any], dtype: str) -> list[Tensor] | None:
        with _precision(dtype):
            return self._rebuilder.logits(config, self._prompts, dtype=dtype)


def _specimens(family: Family) -> Iterator[_Specimen]:
    for variant in family.variant_names:
        checkpoint = checkpoint_of(Case(family=family.name, variant=variant))  # not in exact mode
        with true_float64():
            rebuilder = Rebuilder(family, checkpoint)
        whole = _Specimen(rebuilder, variant, rebuilder.config, derived=False)
        whole.unchanged(EXACT)
        yield whole
        # A list of layers hides the numbers that it would otherwise be derived from.
        lists = [
            name
            for name, value in rebuilder.config.items()
            if isinstance(value, list) and name not in NAMES
        ]
        bare = {name: value for name, value in rebuilder.config.items() if name not in lists}
        if lists and whole.effect_of(bare, rounding=False) not in {"undecided", "parameters"}:
            name = f"{variant} without {', '.join(lists)}"
            yield _Specimen(rebuilder, name, bare, derived=True)


def _field(
    family: Family, path: Path, specimens: Sequence[_Specimen], defaults: Mapping[Path, Any]
) -> Field:
    name = ".".join(path)
    raising = []
    derived = {
        specimen.name.partition(" ")[0]: specimen
        for specimen in specimens
        if specimen.derived and path in flat(specimen.config)
    }
    for specimen in specimens:
        if specimen.derived or not _is_stated(specimen, path, defaults):
            continue
        found = specimen.effect_of(_reset(specimen, path, defaults), rounding=True)
        if found == "undecided":
            raising.append(specimen)
            if bare := derived.get(specimen.name):
                found = bare.effect_of(_reset(bare, path, defaults), rounding=True)
        if found not in {"undecided", "none"}:
            return Field(
                family=family.name,
                name=name,
                effect=found,
                shown_by=f"{specimen.name}: {_said(specimen.fields[path])} → left out",
                exercised_by=specimen.name,
            )
    # Where leaving it out cannot be run at all, that another value changes numbers is enough.
    for specimen in raising:
        effect, shown_by = _change(specimen, path, thorough=True)
        if shown_by:
            return Field(
                family=family.name,
                name=name,
                effect=effect,
                shown_by=shown_by,
                exercised_by=specimen.name,
            )
    effects: list[Effect] = []
    for specimen in specimens:
        effect, shown_by = _change(specimen, path, thorough=specimen is specimens[0])
        if shown_by:
            reason = family.unexercised.get(name, "")
            return Field(
                family=family.name, name=name, effect=effect, shown_by=shown_by, reason=reason
            )
        effects.append(effect)
    effect = "none" if "none" in effects else "undecided"
    reason = family.unexercised.get(name, "")
    return Field(family=family.name, name=name, effect=effect, reason=reason)


def _is_stated(specimen: _Specimen, path: Path, defaults: Mapping[Path, Any]) -> bool:
    """Say whether a variant's own config states a field, away from the class's default."""
    stated = flat(specimen.config)
    return path in stated and (path not in defaults or stated[path] != defaults[path])


def _reset(specimen: _Specimen, path: Path, defaults: Mapping[Path, Any]) -> dict[str, Any]:
    """Give a specimen's config with one field at its default.

    What is left out of a nested config is not what the class has by default: GPT-OSS' own default
    of `truncate` is not that of its rotary type.
    """
    if len(path) > 1 and path in defaults:
        return changed(specimen.config, path, defaults[path])
    return without(specimen.config, path)


def _change(specimen: _Specimen, path: Path, *, thorough: bool) -> tuple[Effect, str]:
    """Give a field's effect in a specimen, and the change that showed it, if one did."""
    value = specimen.fields.get(path)
    values = others(path, value, _pool())
    effect: Effect = "undecided"
    for other in values if thorough else itertools.islice(values, _FEW):
        found = specimen.effect_of(changed(specimen.config, path, other), rounding=thorough)
        if found in {"parameters", "logits", "rounding"}:
            return found, f"{specimen.name}: {_said(value)} → {_said(other)}"
        effect = "none" if found == "none" else effect
    return effect, ""


def _said(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _same(left: Sequence[Tensor], right: Sequence[Tensor], dtype: str) -> bool:
    if dtype != EXACT:
        return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
    return all(
        float((a - b).norm()) <= EXACT_BOUND * float(b.norm())
        for a, b in zip(left, right, strict=True)
    )


@contextmanager
def _precision(dtype: str) -> Iterator[None]:
    if dtype == EXACT:
        with true_float64():
            yield
    else:
        yield
