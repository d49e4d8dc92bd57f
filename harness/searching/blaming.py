"""Blame: the smallest set of package changes that brings what the candidate shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from harness.errors import UsageError
from harness.record import write_json
from harness.searching.probing import Answer, begin_search, subject_for
from harness.versions.measuring import VERIFIED
from harness.versions.resolving import Change, lock_difference, parse_spec
from harness.versions.search import smallest_set

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.searching.probing import Ground
    from harness.versions.measuring import Subject
    from harness.versions.search import Blamed, Outcome

LIKELY: Final = (*VERIFIED, "accelerate", "safetensors", "tokenizers", "numpy", "huggingface-hub")
"""Packages whose code computes, loads or prepares what is measured, the likeliest first: each of
them is tried alone before any set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """The packages that changed between two environments, and those held whatever happens.

    `held` are the versions of packages that the user named, and of those that are measured, on
    the old side: a set of changes that forces another of them is none of that set alone.
    """

    changes: tuple[Change, ...]
    held: tuple[tuple[str, str], ...]

    @property
    def likely(self) -> int:
        """Count the changes of likely packages; they come first."""
        return sum(change.name in LIKELY for change in self.changes)

    def spec(self, subset: Iterable[Change]) -> str:
        """Give the requirements of the old side with some changes made."""
        versions = dict(self.held)
        versions |= {change.name: str(change.new) for change in subset}
        return " ".join(f"{name}=={version}" for name, version in versions.items())


def suspects_of(old: Subject, new: Subject) -> Suspects:
    """Give the packages of which both sides have a version, and not the same.

    Raises:
        UsageError: there is none.
    """
    locks = old.environment.lock, new.environment.lock
    changed = [
        change
        for change in lock_difference(*locks)
        if change.old is not None and change.new is not None and change.name != _OURSELVES
    ]
    if not changed:
        message = (
            f"{old.spec} and {new.spec} have the same version of each package that both have: "
            "there is nothing to blame\n  next:    name two environments that differ"
        )
        raise UsageError(message)
    order = {name: place for place, name in enumerate(LIKELY)}
    changed.sort(key=lambda change: (order.get(change.name, len(order)), change.name))
    named = {*VERIFIED, *_names(old.spec), *_names(new.spec)}
    versions = old.environment.versions
    held = tuple((name, version) for name, version in versions.items() if name in named)
    return Suspects(changes=tuple(changed), held=held)


_OURSELVES: Final = "model-port-harness"


def _names(spec: str) -> set[str]:
    return {str(canonicalize_name(each.name)) for each in parse_spec(spec)}


def run_blame(baseline: str, candidate: str, ground: Ground) -> Answer:
    """Try sets of changes on the baseline's environment, and give the answer in lines.

    Raises:
        UsageError: the candidate is not worse, or no package changed.
        EnvironmentUnavailable: a side cannot be built or measured.
    """
    old = subject_for(baseline, None, ground)
    new = subject_for(candidate, old, ground)
    suspects = suspects_of(old, new)
    shown = ", ".join(map(shown_change, suspects.changes))
    ground.watcher.say(f"{len(suspects.changes)} packages changed: {shown}")
    search = begin_search(ground, old, new, names=(baseline, candidate))
    subsets: dict[tuple[Change, ...], str] = {}

    def outcome_of(subset: tuple[Change, ...]) -> Outcome:
        name = " ".join(f"{change.name}=={change.new}" for change in subset)
        subsets[subset] = name
        return search.probe(name, suspects.spec(subset))

    blamed = smallest_set(suspects.changes, outcome_of, likely=suspects.likely)
    lock = search.locks.get(subsets.get(blamed.culprits, ""), new.environment.lock)
    notes = (*_notes(blamed, lock, old), f"environments: {search.environments}")
    answer = f"blamed: {', '.join(map(shown_change, blamed.culprits))}"
    content = {
        "baseline": baseline,
        "candidate": candidate,
        "changed": list(map(shown_change, suspects.changes)),
        "blamed": list(map(shown_change, blamed.culprits)),
        "smallest": blamed.smallest,
        **search.described(),
        "notes": list(notes),
        "answer": answer,
    }
    write_json(ground.plan.out / "blame.json", content)
    return Answer(notes=notes, line=answer)


def _notes(blamed: Blamed[Change], lock: str, old: Subject) -> list[str]:
    culprits = {change.name for change in blamed.culprits}
    forced = [
        change
        for change in lock_difference(old.environment.lock, lock)
        if change.name not in culprits
    ]
    notes = []
    if forced:
        notes.append(f"it brings along: {', '.join(map(shown_change, forced))}")
    notes += [
        f"not measured: {', '.join(map(shown_change, subset))} alone"
        for subset in blamed.skipped
        if len(subset) <= len(blamed.culprits)
    ]
    if not blamed.smallest:
        notes.append("none of these can be left out; whether another, smaller set does as well "
                     "was not tried")  # fmt: skip
    return notes


def shown_change(change: Change) -> str:
    """Print as `transformers 5.9.0 → 5.23.0`."""
    return f"{change.name} {change.old or '(absent)'} → {change.new or '(absent)'}"
