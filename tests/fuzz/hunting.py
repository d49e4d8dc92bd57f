"""Changes stored things at random, asks their readers, and counts what came of it."""

from __future__ import annotations

import re
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from tests.fuzz.mutations import MUTATIONS, Mutation, mutations_of
from tests.fuzz.readers import Noticed
from tests.fuzz.things import Thing

SAME, REFUSED, NOTICED, BY_HAND = "same", "refused", "noticed", "by hand"
UNEXPECTED, WRONG, UNCLEAR = "unexpected", "wrong", "unclear"
OUTCOMES: Final = (SAME, REFUSED, NOTICED, BY_HAND, UNEXPECTED, WRONG, UNCLEAR)
BAD: Final = (UNEXPECTED, WRONG, UNCLEAR)

_NEXT: Final = re.compile(
    r"next:|; (accept|ask|delete|fetch|give|read|restore|run|save|measure|it is made|try)|harness |"
    r"delete it|restore it|delete .* and"
)
"""What a sentence has that says what to do."""
_NUMBERS: Final = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One input: a file of a thing, changed in a way by a number, and one who reads it."""

    thing: str
    reader: str
    file: str
    mutation: str
    number: int

    def __str__(self) -> str:
        return " | ".join((self.thing, self.reader, self.file, self.mutation, str(self.number)))


def trial_from(words: str) -> Trial:
    """Give the trial that was printed so."""
    thing, reader, file, mutation, number = words.split(" | ")
    return Trial(thing=thing, reader=reader, file=file, mutation=mutation, number=int(number))


@dataclass(slots=True)
class Found:
    """What came of all trials: how many of each outcome per thing, and those that were bad."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    bad: list[tuple[Trial, str, str]] = field(default_factory=list)

    def add(self, trial: Trial, outcome: str, words: str) -> None:
        """Count one."""
        self.counts.setdefault(trial.thing, Counter())[outcome] += 1
        if outcome in BAD:
            self.bad.append((trial, outcome, words))

    def total(self, *outcomes: str) -> int:
        """Give how many trials had these outcomes; all if none is named."""
        return sum(
            number
            for counted in self.counts.values()
            for outcome, number in counted.items()
            if not outcomes or outcome in outcomes
        )


class Hunt:
    """Asks readers of changed copies; the answers of the unchanged ones are asked once."""

    def __init__(self, things: Sequence[Thing], scratch: Path) -> None:
        """Ask nothing yet."""
        self.things = {thing.name: thing for thing in things}
        self._scratch = scratch
        self._answers: dict[tuple[str, str], Any] = {}

    def try_(self, trial: Trial) -> tuple[str, str]:
        """Give the outcome of a trial, and words about it."""
        thing = self.things[trial.thing]
        mutation = next(each for each in MUTATIONS if each.name == trial.mutation)
        expected = self._answer(thing, trial.reader)
        copy = self._copied(thing)
        file = copy / trial.file
        content = mutation.change(file.read_bytes(), Random(trial.number))
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        try:
            found = thing.readers[trial.reader](copy)
        except Noticed as noticed:
            return NOTICED, str(noticed)
        except HarnessError as error:
            return (REFUSED if _is_clear(str(error), copy, file) else UNCLEAR), str(error)
        except Exception:  # noqa: BLE001 - what is raised is what is looked for
            return UNEXPECTED, traceback.format_exc()
        if found == expected:
            return SAME, ""
        words = f"expected {expected!r:.2000}\nfound    {found!r:.2000}"
        return BY_HAND if mutation.by_hand or thing.by_hand else WRONG, words

    def _answer(self, thing: Thing, reader: str) -> Any:
        key = thing.name, reader
        if key not in self._answers:
            self._answers[key] = thing.readers[reader](self._copied(thing))
        return self._answers[key]

    def _copied(self, thing: Thing) -> Path:
        """Give a copy of a thing, always at the same place: some answers name it."""
        copy = self._scratch / thing.name / thing.folder.name
        shutil.rmtree(copy.parent, ignore_errors=True)
        shutil.copytree(thing.folder, copy, symlinks=True)
        return copy


def _is_clear(words: str, copy: Path, file: Path) -> bool:
    """Say whether an error names the file or its folder, and says what to do next."""
    names = {str(file), str(file.parent), str(copy), file.name, copy.name}
    return any(name in words for name in names) and bool(_NEXT.search(words))


def hunt(
    things: Sequence[Thing],
    scratch: Path,
    *,
    inputs: int,
    first: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Found:
    """Try that many inputs, drawn by hypothesis from a seed."""
    found, hunting = Found(), Hunt(things, scratch)

    @seed(first)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(trial=trials(things))
    def ask(trial: Trial) -> None:
        found.add(trial, *hunting.try_(trial))
        progress(found.total())

    ask()
    return found


@st.composite
def trials(draw: st.DrawFn, things: Sequence[Thing]) -> Trial:
    """Draw who reads which thing, a file of it, and how that is changed."""
    pairs = [(thing, reader) for thing in things for reader in thing.readers]
    thing, reader = draw(st.sampled_from(pairs))
    file = draw(st.sampled_from(thing.files_of(reader)))
    mutation: Mutation = draw(st.sampled_from(mutations_of(file)))
    return Trial(
        thing=thing.name,
        reader=reader,
        file=file,
        mutation=mutation.name,
        number=draw(st.integers(0, _NUMBERS - 1)),
    )
