"""One step of a search: a spec in its own environment, on the shared question, against good."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from packaging.utils import canonicalize_name

from harness.errors import EnvironmentUnavailable, RequirementError, UsageError
from harness.gating import run_gate
from harness.judge.gate import gate
from harness.judge.sides import read_side
from harness.measure.question import Question
from harness.searching.symptoms import judgement_on, places_in, symptoms_of, words_for
from harness.versions.measuring import measure_in, subject_of
from harness.versions.resolving import parse_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.gating import Plan, Watcher
    from harness.judge.gate import Gate, GateCell
    from harness.judge.sides import Side
    from harness.searching.symptoms import Places
    from harness.selection import Selection
    from harness.versions.measuring import Subject
    from harness.versions.search import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What holds for a whole search: how it asks, what is given on every side, who hears of it."""

    selection: Selection
    plan: Plan
    watcher: Watcher
    heard: Callable[[Step], None]
    given: str = ""
    python: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one evaluation said: of which versions, in which words, in how many seconds."""

    name: str
    outcome: Outcome
    words: str
    seconds: float
    environment: str | None

    def __str__(self) -> str:
        """Print as one line."""
        return f"{self.name:<28} {self.outcome:<8} {self.seconds:5.0f} s  {self.words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a search found: what to know about it, and the answer itself, in lines."""

    notes: tuple[str, ...]
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search that has begun: both ends are measured, and it is known what is looked for.

    Every step holds the good end's versions of all packages that it does not name, runs the few
    cells that are followed, and is judged against the good end, which is measured once.
    """

    ground: Ground
    good: Subject
    good_side: Side
    bad_run: Path
    symptoms: tuple[GateCell, ...]
    places: Places
    question: Path
    steps: list[Step] = field(default_factory=list)
    runs: dict[str, Path] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)

    def note(
        self, name: str, outcome: Outcome, words: str, seconds: float, subject: Subject | None
    ) -> None:
        """Keep a step, and say it."""
        step = Step(
            name=name,
            outcome=outcome,
            words=words,
            seconds=seconds,
            environment=subject.environment.key if subject else None,
        )
        self.steps.append(step)
        self.ground.heard(step)

    @property
    def environments(self) -> int:
        """Count the environments that the search has used."""
        return len({step.environment for step in self.steps if step.environment})

    def probe(self, name: str, spec: str) -> Outcome:
        """Measure a spec and say whether it shows the fault; keep the step under its name."""
        begin = time.monotonic()
        subject = None
        outcome: Outcome = "skipped"
        try:
            subject = subject_for(spec, self.good, self.ground)
            self.locks[name] = subject.environment.lock
            run = self.ground.plan.out / "steps" / name.replace("==", "-").replace(" ", "_")
            shutil.rmtree(run, ignore_errors=True)
            self.measure(name, subject, run)
        except (RequirementError, EnvironmentUnavailable) as error:
            words = first_lines(error)
        else:
            self.runs[name] = run
            found = judgement_on(
                self.compared(self.good_side, read_side(run, name=name)), self.symptoms, self.places
            )
            outcome, words = found.outcome, found.words + _forced(spec, subject, self.good)
        self.note(name, outcome, words, time.monotonic() - begin, subject)
        return outcome

    def measure(self, name: str, subject: Subject, run: Path) -> None:
        """Measure the cells that are followed."""
        total = len(self.symptoms)
        heard = self.ground.watcher.measured
        measure_in(subject, self.question, run, progress=lambda done: heard(name, done, total))

    def compared(self, old: Side, new: Side) -> Gate:
        """Judge the cells that are followed, from one side to another."""
        return gate(old, new, [cell.cell_id for cell in self.symptoms])

    def described(self) -> dict[str, Any]:
        """Give what is written down of every search: what it followed, and its steps."""
        return {
            "environments": self.environments,
            "followed": [
                {"cell_id": cell.cell_id, "verdict": cell.verdict, "first_site": cell.first_site}
                for cell in self.symptoms
            ],
            "steps": [
                {
                    "name": step.name,
                    "outcome": step.outcome,
                    "words": step.words,
                    "seconds": round(step.seconds, 1),
                    "environment": step.environment,
                }
                for step in self.steps
            ],
        }


def subject_for(spec: str, prefer: Subject | None, ground: Ground) -> Subject:
    """Give the environment of a spec, all that it does not name as `prefer` has it."""
    return subject_of(
        spec,
        prefer=prefer,
        given=ground.given,
        python=ground.python,
        progress=ground.watcher.say,
    )


def begin_search(ground: Ground, good: Subject, bad: Subject, *, names: tuple[str, str]) -> Search:
    """Gate good against bad, and follow the few cells that are worse.

    Raises:
        UsageError: nothing is worse at the bad end, or nothing can be measured.
    """
    begin = time.monotonic()
    found = run_gate((good, bad), ground.selection, ground.plan, ground.watcher)
    if not found.worse:
        raise UsageError(_not_bad(found, *names))
    symptoms = symptoms_of(found)
    out = ground.plan.out
    side = read_side(out / "baseline", name=names[0])
    search = Search(
        ground=ground,
        good=good,
        good_side=side,
        bad_run=out / "candidate",
        symptoms=symptoms,
        places=places_in(side, symptoms),
        question=out / "followed.json",
        runs={names[0]: out / "baseline", names[1]: out / "candidate"},
    )
    _restricted(Question.read(out / "question.json"), symptoms).write(search.question)
    seconds = time.monotonic() - begin
    words = judgement_on(search.compared(side, read_side(search.bad_run)), symptoms, search.places)
    many = f"; follows {len(symptoms)} of {len(found.worse)} worse cells"
    said = "the side that all others are compared with"
    search.note(names[0], "good", said, seconds, good)
    many += _forced(names[1], bad, good)
    search.note(names[1], "bad", words.words + many, 0.0, bad)  # both were measured at once
    return search


def _forced(spec: str, subject: Subject, good: Subject) -> str:
    """Say which of the packages that are measured came along without being named."""
    named = {canonicalize_name(each.name) for each in parse_spec(spec)}
    along = [
        f"{name} {good.versions[name]} → {version}"
        for name, version in subject.versions.items()
        if name not in named and good.versions.get(name, version) != version
    ]
    return f"; forces {', '.join(along)}" if along else ""


def _restricted(question: Question, symptoms: tuple[GateCell, ...]) -> Question:
    followed = {cell.cell_id for cell in symptoms}
    cells = tuple(cell for cell in question.cells if cell.id in followed)
    cases = {cell.case.id for cell in cells}
    return Question(
        cells=cells,
        checkpoints={name: question.checkpoints[name] for name in cases},
        prompts={name: question.prompts[name] for name in cases},
    )


def _not_bad(found: Gate, good: str, bad: str) -> str:
    counts = Counter(cell.verdict for cell in found.cells)
    said = ", ".join(f"{verdict} ×{n}" for verdict, n in counts.most_common())
    if not found.asked:
        reason = next((cell.reason for cell in found.cells if cell.reason), "no reason given")
        return (
            f"{bad} cannot be called bad: no cell could be measured on both sides\n"
            f"  found:   {said}; {reason.splitlines()[0]}\n"
            "  next:    ask for a family, mode or release that can be measured"
        )
    fixed = next((cell for cell in found.cells if cell.verdict == "fixed"), None)
    hint = f"; {good} is the bad one: {words_for(fixed)} [{fixed.cell_id}]" if fixed else ""
    return (
        f"{bad} is not bad: nothing is worse than at {good}\n"
        f"  found:   {said}, of {len(found.cells)} cells{hint}\n"
        "  allowed: a bad end at which at least one cell is worse\n"
        "  next:    name a release where harness gate says worse, or ask for other cells; a fault "
        "that came and went shows between the two alone"
    )


def first_lines(error: Exception) -> str:
    """Give what an error says first, in one line."""
    lines = [line.strip() for line in str(error).splitlines()[:2]]
    return " ".join(lines)[:_SHOWN]


_SHOWN: Final = 240  # characters: the sentence, and the beginning of what was found
