"""Searches over versions and sets of changes: pure, they know nothing of what they compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Hashable, Mapping, Sequence

Outcome = Literal["good", "bad", "skipped"]
"""What an evaluation says; `skipped` where it can say nothing: it cannot be built or measured."""

T = TypeVar("T")
H = TypeVar("H", bound="Hashable")

EXHAUSTIVE: Final = 4
"""Up to so many changes all subsets are tried by size: 14 at most, about as many as ddmin takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[T]):
    """Where a history turns from good to bad.

    `between` could not be evaluated, so the turn may be at any of them. `contradictions` are
    pairs of a bad one and a good one after it: then the turn that was found is not the only one.
    """

    last_good: T
    first_bad: T
    between: tuple[T, ...] = ()
    contradictions: tuple[tuple[T, T], ...] = ()
    evaluated: int = 0


def most_evaluations(n: int) -> int:
    """Give the most evaluations that `n` releases take, both ends included, if all can be built."""
    return (n - 1).bit_length() + 2  # ceil(log2 n) + 2


def bisect(
    history: Sequence[T], outcome_of: Callable[[T], Outcome], *, checks: int = 0
) -> Found[T]:
    """Give the place where a history, from its good end to its bad end, turns bad.

    One that is skipped is gone around: the one nearest to it is tried. What is left of
    `most_evaluations`, and `checks` more, goes to releases far from those evaluated, to notice a
    history that turns more than once.

    Raises:
        UsageError: an end is not what it should be, or they are the same.
    """
    if len(history) < 2:  # noqa: PLR2004 - two ends
        message = "good and bad are the same release; name two"
        raise UsageError(message)
    outcomes: dict[int, Outcome] = {}

    def ask(place: int) -> Outcome:
        outcomes[place] = outcome_of(history[place])
        return outcomes[place]

    low, high = 0, len(history) - 1
    _check_end(history[high], ask(high), "bad")
    _check_end(history[low], ask(low), "good")
    while (place := _nearest_to_middle(low, high, outcomes)) is not None:
        outcome = ask(place)
        if outcome == "good":
            low = place
        elif outcome == "bad":
            high = place
    for _ in range(max(0, most_evaluations(len(history)) - len(outcomes)) + checks):
        if (place := _farthest(len(history), outcomes)) is not None:
            ask(place)
    return Found(
        last_good=history[low],
        first_bad=history[high],
        between=tuple(history[place] for place in range(low + 1, high)),
        contradictions=tuple((history[bad], history[good]) for bad, good in _turns(outcomes)),
        evaluated=len(outcomes),
    )


def _check_end(end: object, outcome: Outcome, wanted: Outcome) -> None:
    if outcome != wanted:
        found = "cannot be measured" if outcome == "skipped" else f"is {outcome}"
        message = f"{end} should be {wanted}, and {found}; name another release"
        raise UsageError(message)


def _nearest_to_middle(low: int, high: int, evaluated: Container[int]) -> int | None:
    left = [place for place in range(low + 1, high) if place not in evaluated]
    return min(left, key=lambda place: abs(place - (low + high) // 2), default=None)


def _farthest(n: int, evaluated: Collection[int]) -> int | None:
    left = [place for place in range(n) if place not in evaluated]
    return max(left, key=lambda place: min(abs(place - each) for each in evaluated), default=None)


def _turns(outcomes: Mapping[int, Outcome]) -> list[tuple[int, int]]:
    """Give each bad place before a good one."""
    return [
        (before, after)
        for before, after in combinations(sorted(outcomes), 2)
        if outcomes[before] == "bad" and outcomes[after] == "good"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blamed(Generic[H]):
    """The changes that turn good into bad together.

    `smallest`: no smaller set does, unless it is among the `skipped`; else none of them can be
    left out, though another, smaller set may do as well.
    """

    culprits: tuple[H, ...]
    smallest: bool
    skipped: tuple[tuple[H, ...], ...] = ()
    evaluated: int = 0


@dataclass(slots=True)
class _Trials(Generic[H]):
    """Subsets tried so far; the whole is bad and nothing is good, without being asked."""

    changes: tuple[H, ...]
    outcome_of: Callable[[tuple[H, ...]], Outcome]
    outcomes: dict[tuple[H, ...], Outcome] = field(default_factory=dict)

    def bad(self, subset: Sequence[H]) -> bool:
        """Say whether the subset turns good into bad."""
        key = tuple(change for change in self.changes if change in subset)
        if key == self.changes:
            return True
        if not key:
            return False
        if key not in self.outcomes:
            self.outcomes[key] = self.outcome_of(key)
        return self.outcomes[key] == "bad"

    def blame(self, culprits: Sequence[H], *, smallest: bool) -> Blamed[H]:
        """Give the answer, with what was tried on the way."""
        return Blamed(
            culprits=tuple(change for change in self.changes if change in culprits),
            smallest=smallest,
            skipped=tuple(key for key, said in self.outcomes.items() if said == "skipped"),
            evaluated=len(self.outcomes),
        )


def smallest_set(
    changes: Sequence[H], outcome_of: Callable[[tuple[H, ...]], Outcome], *, likely: int
) -> Blamed[H]:
    """Give a smallest set of changes that turns good into bad; all of them together do.

    The first `likely` changes are tried one by one. Where that finds nothing, few changes are
    tried by the size of their sets, and many by delta debugging (Zeller and Hildebrandt, 2002).

    Raises:
        UsageError: there is no change.
    """
    if not changes:
        message = "no package changed between the two sides: there is nothing to blame"
        raise UsageError(message)
    trials = _Trials(tuple(changes), outcome_of)
    for change in trials.changes[:likely]:
        if trials.bad([change]):
            return trials.blame([change], smallest=True)
    if len(changes) <= EXHAUSTIVE:
        for size in range(1, len(changes) + 1):
            for subset in combinations(trials.changes, size):
                if trials.bad(subset):
                    return trials.blame(subset, smallest=True)
    culprits = _delta_debugged(trials)
    return trials.blame(culprits, smallest=len(culprits) == 1)


def _delta_debugged(trials: _Trials[H]) -> list[H]:
    """Give a set of which no change can be left out (ddmin)."""
    current, pieces = list(trials.changes), 2
    while len(current) > 1:
        chunks = _split(current, pieces)
        smaller = next((chunk for chunk in chunks if trials.bad(chunk)), None)
        if smaller is not None:
            current, pieces = smaller, 2
            continue
        rests = ([each for each in current if each not in chunk] for chunk in chunks)
        rest = next((rest for rest in rests if trials.bad(rest)), None)
        if rest is not None:
            current, pieces = rest, max(pieces - 1, 2)
        elif pieces == len(current):
            break
        else:
            pieces = min(len(current), 2 * pieces)
    return current


def _split(values: list[H], pieces: int) -> list[list[H]]:
    ends = [len(values) * piece // pieces for piece in range(pieces + 1)]
    return [values[start:end] for start, end in pairwise(ends)]
