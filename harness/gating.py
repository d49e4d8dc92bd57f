"""The upgrade gate from end to end: specs become environments, a question, two runs, verdicts."""

from __future__ import annotations

import itertools
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.version import Version

from harness.case import HOOKED_PROBE_MODES, LOADING_MODES, PROBE_MODES, SHRUNK, SYNTHETIC, Case
from harness.errors import SelectionError, UsageError
from harness.judge.baseline import is_baseline
from harness.judge.gate import Gate, gate
from harness.judge.sides import read_side
from harness.measure.question import (
    Question,
    ask,
    ask_again,
    cell_of,
    checkpoint_or_why_not,
    prompt_of,
)
from harness.models.checkpoints import Checkpoint, model_type_of
from harness.models.families import FAMILIES
from harness.profile import BREADTH, DEFAULT
from harness.selection import cells_of, probe_cells_of
from harness.versions.measuring import (
    Subject,
    current_environment,
    import_failures,
    measure_in,
    shrunk_in,
    subject_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from harness.case import Cell
    from harness.judge.sides import Side
    from harness.selection import Selection

FIRST_BRIDGE: Final = Version("3.0")
FIRST_WITHOUT_HOOKED: Final = Version("4.0")
PORT: Final = "transformer-lens"
REFERENCE: Final = "transformers"
SAVES: Final = "save_load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Who hears how far a gate is: sentences, and how many cells of a side are measured."""

    say: Callable[[str], None]
    measured: Callable[[str, int, int], None]


Source = Subject | Path


def source_of(
    spec: str, *, prefer: Source | None, given: str, python: str | None, watcher: Watcher
) -> Source:
    """Give what a SPEC stands for: the folder of a run or baseline, or an environment.

    Raises:
        RequirementError: it is neither a folder that is there nor a list of requirements.
        EnvironmentUnavailable: the environment cannot be built.
    """
    folder = Path(spec)
    if is_baseline(folder) or (folder / "run.json").is_file():
        return folder
    if folder.exists() or "/" in spec:
        message = (
            f"{spec} is no run and no baseline: it has neither run.json nor baseline.json\n"
            "  next:    give a folder below reports/runs or reports/baselines, `current`, "
            'or requirements such as "transformers==5.9.0"'
        )
        raise UsageError(message)
    held = prefer if isinstance(prefer, Subject) else None
    return subject_of(spec, prefer=held, given=given, python=python, progress=watcher.say)


def cases_for(selection: Selection) -> tuple[Case, ...]:
    """Give the cases that a selection asks for: synthetic ones of every variant, unless told."""
    checkpoints = selection.checkpoint or (
        *((SYNTHETIC,) if DEFAULT.name in selection.profiles else ()),
        *((SHRUNK,) if BREADTH.name in selection.profiles else ()),
    )
    return tuple(
        Case(family=family, variant=variant, checkpoint=checkpoint)
        for checkpoint in checkpoints
        for family, variant in _models_of(checkpoint, selection)
        if _is_asked(family, variant, selection)
    )


def _is_asked(family: str, variant: str, selection: Selection) -> bool:
    of_family = not selection.family or family in selection.family
    return of_family and (not selection.variant or variant in selection.variant)


def _models_of(checkpoint: str, selection: Selection) -> Iterator[tuple[str, str]]:
    """Give the families and variants that a kind of checkpoint is there for."""
    if checkpoint == SHRUNK:
        from harness.models.architectures import architectures  # noqa: PLC0415 - takes seconds

        yield from ((each.model_type, name) for each in architectures() for name in each.variants)
    elif checkpoint.startswith(SYNTHETIC):
        yield from ((name, each) for name in FAMILIES for each in FAMILIES[name].variant_names)
    else:
        families = selection.family or (model_type_of(checkpoint),)
        yield from itertools.product(families, selection.variant or ("default",))


def made_elsewhere(selection: Selection, sources: Iterable[Source]) -> dict[Case, Checkpoint | str]:
    """Give the cases that only a side's transformers can shrink, with what came of it there.

    So a type that a release brings is asked for before it is installed here, and one that a
    release can build no more is asked for as another has built it.
    """
    if BREADTH.name not in selection.profiles:
        return {}
    from harness.models.architectures import architectures  # noqa: PLC0415 - takes seconds

    here = current_environment().versions.get(REFERENCE)
    others = [
        source
        for source in sources
        if isinstance(source, Subject) and source.versions.get(REFERENCE) not in {None, here}
    ]
    if not others:
        return {}
    known = [
        (each.model_type, each.variant)
        for each in architectures()
        if not _is_asked(each.model_type, each.variant, selection)
        or isinstance(checkpoint_or_why_not(_shrunk(each.model_type, each.variant)), Checkpoint)
    ]
    found: dict[Case, Checkpoint | str] = {}
    for source in others:
        for (family, variant), row in shrunk_in(source, known).items():
            if _is_asked(family, variant, selection):
                case = _shrunk(family, variant)
                if reason := row.get("reason"):
                    found.setdefault(case, reason)  # another side may have made it
                else:
                    found[case] = Checkpoint(path=Path(row["path"]), digest=row["digest"])
    return found


def _shrunk(family: str, variant: str) -> Case:
    return Case(family=family, variant=variant, checkpoint=SHRUNK)


def modes_for(sources: Iterable[Source]) -> tuple[str, ...]:
    """Give the modes that the versions at hand have: the union over both sides."""
    versions = [
        Version(source.versions[PORT])
        for source in sources
        if isinstance(source, Subject) and PORT in source.versions
    ]
    ports = {"transformers"}
    if any(version >= FIRST_BRIDGE for version in versions):
        ports.add("bridge")
    if any(version < FIRST_WITHOUT_HOOKED for version in versions):
        ports.add("hooked")
    return tuple(name for name, mode in LOADING_MODES.items() if mode.port in ports)


def question_for(
    selection: Selection,
    sources: tuple[Source, ...],
    *,
    drawn: int,
    seed: int,
    broken: Collection[str] = (),
) -> Question:
    """Give the question: what the selection asks, or what a recorded side has answered already.

    Where `broken` names the port, which then does not import, each of its modes is asked once:
    one cell says it as well as all. The reference library's own cells are asked as ever.

    Raises:
        SelectionError: it comes to no cell.
    """
    recorded = [read_side(source) for source in sources if isinstance(source, Path)]
    if recorded:
        stored = map(cell_of, recorded[0].cells.values())
        cells = [cell for cell in stored if selection.admits(cell)]
    else:
        made = made_elsewhere(selection, sources)
        cases = tuple(dict.fromkeys((*cases_for(selection), *made)))
        modes = modes_for(sources)
        compared = cells_of(cases, selection, modes=modes)
        probed = (name for name in (*PROBE_MODES, *HOOKED_PROBE_MODES) if name in modes)
        cells = [*compared, *probe_cells_of(cases, selection, modes=tuple(probed))]
    if PORT in broken:
        cells = _one_of_each_mode(cells)
    if not recorded:
        by_name = {case.id: found for case, found in made.items()}
        return ask(cells, drawn=drawn, seed=seed, made=by_name)
    prompts = {case: tuple(map(prompt_of, rows)) for case, rows in recorded[0].prompts.items()}
    return ask_again(cells, prompts)


def _one_of_each_mode(cells: Iterable[Cell]) -> list[Cell]:
    """Keep one cell of each mode of a port, of GPT-2 if it can be: every release has it."""
    cells = list(cells)
    kept: dict[str, Cell] = {}
    for cell in sorted(cells, key=lambda cell: cell.case.family != "gpt2"):
        if cell.mode.port != "transformers":
            kept.setdefault(cell.loading_mode, cell)
    return [*kept.values(), *(cell for cell in cells if cell.mode.port == "transformers")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a gate asks: prompts drawn beside the bank and their seed, and where it writes."""

    out: Path
    drawn: int = 3
    seed: int = 0


def run_gate(
    sources: tuple[Source, Source], selection: Selection, plan: Plan, watcher: Watcher
) -> Gate:
    """Measure what is not recorded yet, both sides at once, and judge.

    Where models are saved and loaded again, the newer side loads the older one's too, in the end.
    A port that no longer imports is asked once in each mode: nothing of it can be measured.

    Raises:
        UsageError: the sides cannot be compared.
        EnvironmentUnavailable: a worker ended before its work.
    """
    old, new = sources
    if isinstance(old, Path) and isinstance(new, Path):
        sides = read_side(old), read_side(new)
        return gate(*sides, cells_in_common(*sides, selection))
    broken = broken_packages(sources, watcher)
    question = question_for(selection, sources, drawn=plan.drawn, seed=plan.seed, broken=broken)
    plan.out.mkdir(parents=True, exist_ok=True)
    named = dict(zip(("baseline", "candidate"), sources, strict=True))
    newer = newer_of(named) if any(cell.probe == SAVES for cell in question.cells) else None
    if newer is not None:
        question = replace(question, exchange=plan.out / "exchange")
        shutil.rmtree(plan.out / "exchange", ignore_errors=True)
    file = plan.out / "question.json"
    question.write(file)
    runs = {name: plan.out / name for name, side in named.items() if isinstance(side, Subject)}
    for run in runs.values():
        shutil.rmtree(run, ignore_errors=True)
    saved = threading.Event()  # by the older side, for the newer one to load

    def measured(name: str) -> Side:
        source = named[name]
        if isinstance(source, Path):
            return read_side(source)

        def measure(asked: Path) -> None:
            total = len(question.cells)
            measure_in(
                source, asked, runs[name], progress=lambda done: watcher.measured(name, done, total)
            )

        try:
            if name == newer:
                before = plan.out / "question-before.json"
                if (others := without_saving(question)).cells:
                    others.write(before)
                    measure(before)
                saved.wait()
            measure(file)  # what its run has already it does not measure again
        finally:
            if name != newer:
                saved.set()
        return read_side(runs[name], name=source.spec)

    with ThreadPoolExecutor(max_workers=2) as both:
        futures = [both.submit(measured, name) for name in named]
        sides = futures[0].result(), futures[1].result()
    shutil.rmtree(plan.out / "exchange", ignore_errors=True)
    return gate(*sides, [cell.id for cell in question.cells])


def newer_of(named: Mapping[str, Source]) -> str | None:
    """Name the side whose transformers is newer, where both are measured and they differ.

    It must load what the older side saves, so that it is asked that last. An older release owes
    nothing to files of a newer one.
    """
    versions = {
        name: Version(side.versions[REFERENCE])
        for name, side in named.items()
        if isinstance(side, Subject) and REFERENCE in side.versions
    }
    if len(versions) < len(named) or len(set(versions.values())) == 1:
        return None
    return max(versions, key=lambda name: versions[name])


def without_saving(question: Question) -> Question:
    """Give the question without the cells that save a model and load it again."""
    return replace(question, cells=tuple(c for c in question.cells if c.probe != SAVES))


def cells_in_common(old: Side, new: Side, selection: Selection) -> list[str]:
    """Name the cells that either of two recorded sides has, and that are asked for.

    Raises:
        SelectionError: there is none.
    """
    rows = {**new.cells, **old.cells}.values()
    chosen = [row["cell_id"] for row in rows if selection.admits(cell_of(row))]
    if not chosen:
        message = f"{old.name} and {new.name} have no cell that is asked for; ask for more"
        raise SelectionError(message)
    return chosen


def broken_packages(sources: Iterable[Source], watcher: Watcher) -> frozenset[str]:
    """Name the packages that do not import on some side, and say what they say."""
    subjects = [source for source in sources if isinstance(source, Subject)]
    failing: set[str] = set()
    with ThreadPoolExecutor(max_workers=2) as both:
        for subject, found in zip(subjects, both.map(import_failures, subjects), strict=True):
            for package, words in found.items():
                watcher.say(f"{package} does not import [{subject}]: {words}")
            failing |= found.keys()
    return frozenset(failing)
