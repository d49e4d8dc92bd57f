"""Bisect: the first release of a package that shows what the bad end shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from packaging.version import InvalidVersion, Version

from harness.errors import UsageError
from harness.judge.sides import read_side
from harness.record import write_json
from harness.searching.probing import Answer, begin_search, subject_for
from harness.searching.symptoms import words_for
from harness.versions.releases import releases_of
from harness.versions.search import bisect, most_evaluations

if TYPE_CHECKING:
    from harness.searching.probing import Ground, Search
    from harness.versions.search import Found, Outcome

_PACKAGE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")  # PEP 508's names
_NEAR: Final = 3  # releases on each side of one that is not there, in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The releases of a package from its good end to its bad end, the way the search goes.

    Where the bad end is the older one the search goes back in time: it finds a fix.
    """

    package: str
    history: tuple[Version, ...]

    @property
    def backwards(self) -> bool:
        """Say whether the bad end is older than the good one."""
        return self.history[-1] < self.history[0]

    def name(self, version: Version) -> str:
        """Give the requirement on one release."""
        return f"{self.package}=={version}"


def releases_between(
    package: str, good: str, bad: str, *, pre: bool, yanked: bool, python: str | None
) -> Range:
    """Give the releases from good to bad, both included.

    Yanked releases and pre-releases between them are left out unless asked for; an end may be one.

    Raises:
        UsageError: an end is no version or no release, or both are the same.
        RequirementError: no index knows the package.
        EnvironmentUnavailable: an index cannot be read.
    """
    if not _PACKAGE.fullmatch(package):
        message = f"{package!r} is not the name of a package; next: give one such as transformers"
        raise UsageError(message)
    ends = _version(good, "--good"), _version(bad, "--bad")
    if ends[0] == ends[1]:
        message = f"--good and --bad are both {ends[0]}: there is nothing between them; name two"
        raise UsageError(message)
    every = releases_of(package, pre=True, yanked=True, python=python)
    for end in ends:
        if end not in every:
            raise UsageError(_no_release(package, end, every))
    chosen = set(releases_of(package, pre=pre, yanked=yanked, python=python)) | set(ends)
    low, high = min(ends), max(ends)
    history = [version for version in sorted(chosen) if low <= version <= high]
    if ends[0] > ends[1]:
        history.reverse()
    return Range(package=package, history=tuple(history))


def _version(text: str, option: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        message = f"{option} {text!r} is not a version; next: give one such as 4.49.0"
        raise UsageError(message) from error


def _no_release(package: str, end: Version, every: tuple[Version, ...]) -> str:
    older = [str(each) for each in every if each < end][-_NEAR:]
    newer = [str(each) for each in every if each > end][:_NEAR]
    return (
        f"{package}=={end} is no release that this Python can have\n"
        f"  found:   {', '.join([*older, *newer]) or 'no release at all'} are the nearest\n"
        "  next:    name one of these"
    )


def run_bisect(span: Range, ground: Ground, *, checks: int) -> Answer:
    """Search the range, and give the answer in lines.

    Raises:
        UsageError: the bad end is not bad.
        EnvironmentUnavailable: an end cannot be built or measured.
    """
    first, last = span.history[0], span.history[-1]
    most = most_evaluations(len(span.history))
    ground.watcher.say(
        f"{len(span.history)} releases of {span.package} from {first} to {last}: "
        f"at most {most} environments"
    )
    good = subject_for(span.name(first), None, ground)
    bad = subject_for(span.name(last), good, ground)
    search = begin_search(ground, good, bad, names=(span.name(first), span.name(last)))
    ends: dict[Version, Outcome] = {first: "good", last: "bad"}
    found = bisect(
        span.history,
        lambda version: (
            ends[version]
            if version in ends
            else search.probe(span.name(version), span.name(version))
        ),
        checks=checks,
    )
    answer = _answer(span, found)
    notes = (*_notes(span, found, search), f"environments: {search.environments} of at most {most}")
    write_json(ground.plan.out / "bisect.json", _content(span, found, search, answer, notes))
    return Answer(notes=notes, line=answer)


def _answer(span: Range, found: Found[Version]) -> str:
    good, bad = span.name(found.last_good), span.name(found.first_bad)
    if span.backwards:
        return f"last bad: {bad} (first good: {good})"
    return f"first bad: {bad} (last good: {good})"


def _notes(span: Range, found: Found[Version], search: Search) -> list[str]:
    names = [span.name(each) for each in (found.last_good, found.first_bad)]
    sides = [read_side(search.runs[name], name=name) for name in names]
    between = search.compared(*sides)
    said = "; ".join(dict.fromkeys(words_for(cell) for cell in between.cells))
    packages = ", ".join(map(str, between.packages)) or "no package that is recorded"
    notes = [f"{names[0]} → {names[1]}: {said} [{packages}]"]
    if found.between:
        skipped = ", ".join(map(str, found.between))
        notes.append(
            f"not measured between them: {skipped}; the change may have come with any of these"
        )
    notes += [
        f"not monotone: {bad} is bad and {good} after it is good; what was found is one of "
        "several changes"
        for bad, good in found.contradictions
    ]
    if span.backwards:
        notes.append(f"the bad end is the older one: it was fixed in {names[0]}")
    return notes


def _content(
    span: Range, found: Found[Version], search: Search, answer: str, notes: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "package": span.package,
        "releases": list(map(str, span.history)),
        "first_bad": str(found.first_bad),
        "last_good": str(found.last_good),
        "not_measured_between": list(map(str, found.between)),
        "not_monotone": [list(map(str, pair)) for pair in found.contradictions],
        "most_environments": most_evaluations(len(span.history)),
        **search.described(),
        "notes": list(notes),
        "answer": answer,
    }
