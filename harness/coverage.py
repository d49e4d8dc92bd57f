"""What was found of a config's fields: which change numbers, and which of them a variant exercises.

Data and sums only. Of families, `measure/experiments.py` finds it and `report/fields.py` tells it;
of every architecture's flips, `models/shrinking/variants.py` and `report/flipped.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Effect = Literal["parameters", "logits", "rounding", "none", "undecided"]

EFFECTS: Final[Mapping[Effect, str]] = {
    "parameters": "other names or shapes of parameters",
    "logits": "other logits in exact mode",
    "rounding": "the same logits in exact mode, others in bfloat16",
    "none": "the same logits in both",
    "undecided": "every other value raises",
}
"""What changing a field alone does, with the same weights."""

AT_LEAST: Final = 0.95
"""The share of numerics-affecting fields below which `harness coverage` fails.

The project promises as much. What lies between is for the families' `unexercised` lists.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What was found of one config field of one family.

    `shown_by` says which change showed the effect, `exercised_by` names the variant in which the
    field is away from its default and counts; `reason` is why none does, of the family's record.
    """

    family: str
    name: str
    effect: Effect
    shown_by: str = ""
    exercised_by: str = ""
    reason: str = ""

    @property
    def matters(self) -> bool:
        """Say whether the field changes numbers."""
        return self.effect not in {"none", "undecided"}

    @property
    def exercised(self) -> bool:
        """Say whether some variant exercises it."""
        return bool(self.exercised_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A field set to another value, which changed the logits by so much (relative, in float64)."""

    name: str
    before: Any  # as config.json has it
    after: Any
    change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """What flipping each field of an architecture does, one at a time, and how they were joined.

    `changing` are those that change the logits; of them `joined` are in `off_default`, and `apart`
    says why the others are not. `idle` change nothing, `failing` do not build or run, with their
    first words; `untried` were not reached in the time that one architecture has.
    """

    changing: tuple[Flip, ...]
    idle: tuple[str, ...]
    failing: Mapping[str, str]
    untried: tuple[str, ...]
    joined: tuple[str, ...]
    apart: Mapping[str, str]

    @property
    def tried(self) -> int:
        """Count the fields that were flipped."""
        return len(self.changing) + len(self.idle) + len(self.failing)


def as_json(flips: Flips) -> str:
    """Write what was found of an architecture."""
    return json.dumps(asdict(flips), indent=1)


def flips_from(text: str) -> Flips:
    """Read what `as_json` wrote."""
    found = json.loads(text)
    lists = {name: tuple(found[name]) for name in ("idle", "untried", "joined")}
    changing = tuple(Flip(**each) for each in found["changing"])
    return Flips(**{**found, **lists, "changing": changing})


def share(fields: Sequence[Field]) -> float:
    """Give the share of the fields that matter which are exercised; nothing that matters is 0."""
    mattering = [field for field in fields if field.matters]
    return sum(field.exercised for field in mattering) / len(mattering) if mattering else 0.0


def faults_in(fields: Sequence[Field], reasons: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Give each field without a reason that is not exercised, and each reason that is stale.

    Args:
        fields: What was found.
        reasons: By family, the reason why a field is not exercised.
    """
    lines = []
    for field in fields:
        which = f"{field.family}: {field.name}"
        if field.matters and not field.exercised and not field.reason:
            lines.append(
                f"{which} changes {EFFECTS[field.effect]} ({field.shown_by}), and no variant "
                "exercises it; next: a variant, or a reason in the family's `unexercised`"
            )
        if field.effect == "undecided" and not field.reason:
            lines.append(
                f"{which}: {EFFECTS['undecided']}; next: a value that makes sense in "
                "harness/measure/changes.py, or a reason in the family's `unexercised`"
            )
    known = {(field.family, field.name): field for field in fields}
    for family in dict.fromkeys(field.family for field in fields):
        for name in reasons.get(family, {}):
            lines += _stale(family, name, known.get((family, name)))
    return lines


def _stale(family: str, name: str, field: Field | None) -> list[str]:
    if field is None:
        found = "there is no such field"
    elif field.exercised:
        found = f"variant {field.exercised_by} exercises it"
    elif field.effect == "none":
        found = "it changes nothing"
    else:
        return []
    return [f"{family}: {name}: stale reason, {found}; next: take it off `unexercised`"]
