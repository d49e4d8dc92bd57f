"""The commands of the version axis: gate, measure, baseline, env. Thin."""

from __future__ import annotations

import datetime as dt
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness.cli_progress import progress_bar, terminal
from harness.errors import RunFolderError
from harness.profile import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import TaskID

    from harness.gating import Watcher
    from harness.judge.gate import Gate
    from harness.selection import Selection

BASELINES: Final = Path("reports/baselines")
DEFAULT_BASELINE: Final = BASELINES / "default"
_RUNS: Final = Path("reports/runs")
_WIDTH: Final = 170
_SPEC: Final = "requirements (\"transformers==5.9.0\"), `current`, or a run's or baseline's folder"

baseline_app = typer.Typer(no_args_is_help=True, help="Runs that a person accepted.")
env_app = typer.Typer(no_args_is_help=True, help="The isolated environments that were built.")

Names = Annotated[list[str] | None, typer.Option(metavar="NAME")]
Drawn = Annotated[int, typer.Option("--prompts", help="prompts drawn beside the bank")]
Seed = Annotated[int, typer.Option("--prompt-seed", help="seed of these")]
Given = Annotated[
    str, typer.Option("--with", metavar="SPEC", help="requirements that hold on every side")
]
Trusted = Annotated[
    list[str] | None,
    typer.Option(metavar="CASE", help="run the Python files of this case's checkpoint"),
]
Python = Annotated[str | None, typer.Option(help="version of Python of the environments")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(gate)
    app.command()(measure)
    app.command()(sketch_accuracy)
    app.add_typer(baseline_app, name="baseline")
    app.add_typer(env_app, name="env")


def gate(
    *,
    baseline: Annotated[str, typer.Option(metavar="SPEC", help=_SPEC)] = str(DEFAULT_BASELINE),
    candidate: Annotated[str, typer.Option(metavar="SPEC", help=_SPEC)] = "current",
    family: Names = None,
    variant: Names = None,
    mode: Names = None,
    dtype: Names = None,
    device: Names = None,
    checkpoint: Names = None,
    probe: Names = None,
    profile: Names = None,
    prompts: Drawn = 3,
    prompt_seed: Seed = 0,
    given: Given = "",
    python: Python = None,
    out: Annotated[Path | None, typer.Option(help="folder of gate.json, gate.md, gate.xml")] = None,
) -> None:
    """Say what changes between two sets of versions, where first, and who moved it.

    Exit code 0: nothing is worse; 1: something is; 2: the question could not be asked.
    """
    from harness.gating import Plan, run_gate, source_of
    from harness.report import gates

    selection = checked_selection(
        family=family,
        variant=variant,
        mode=mode,
        dtype=dtype,
        device=device,
        checkpoint=checkpoint,
        probe=probe,
        profile=profile,
    )
    now = dt.datetime.now(dt.timezone.utc)
    folder = out or _RUNS / f"gate-{now:%Y%m%dT%H%M%S}-{os.getpid()}"
    with watching() as watcher:
        old = source_of(baseline, prefer=None, given=given, python=python, watcher=watcher)
        new = source_of(candidate, prefer=old, given=given, python=python, watcher=watcher)
        plan = Plan(out=folder, drawn=prompts, seed=prompt_seed)
        found = run_gate((old, new), selection, plan, watcher)
    gates.write_gate(found, folder)
    _print_gate(found)
    print(f"written: {folder / 'gate.json'}")
    raise typer.Exit(found.exit_code)


def measure(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help='"transformers==5.9.0" or `current`')],
    *,
    family: Names = None,
    variant: Names = None,
    mode: Names = None,
    dtype: Names = None,
    device: Names = None,
    checkpoint: Names = None,
    probe: Names = None,
    profile: Names = None,
    prompts: Drawn = 3,
    prompt_seed: Seed = 0,
    given: Given = "",
    python: Python = None,
    trust_remote_code: Trusted = None,
    out: Annotated[Path | None, typer.Option(help="the run's folder")] = None,
) -> None:
    """Measure cells with the releases of a SPEC, in an environment of their own: a recorded run."""
    from harness.gating import question_for, source_of
    from harness.models.remote_code import trust
    from harness.report.words import print_run
    from harness.versions.measuring import Subject, measure_in

    selection = checked_selection(
        family=family,
        variant=variant,
        mode=mode,
        dtype=dtype,
        device=device,
        checkpoint=checkpoint,
        probe=probe,
        profile=profile,
    )
    trust(trust_remote_code or ())
    now = dt.datetime.now(dt.timezone.utc)
    run = out or _RUNS / f"measured-{now:%Y%m%dT%H%M%S}-{os.getpid()}"
    if run.exists() and any(run.iterdir()):
        message = f"{run} is there already; give another --out, or remove it"
        raise RunFolderError(message)
    with watching() as watcher:
        source = source_of(spec, prefer=None, given=given, python=python, watcher=watcher)
        if not isinstance(source, Subject):
            message = f"{spec} is recorded already; give requirements, or `current`"
            raise RunFolderError(message)
        question = question_for(selection, (source,), drawn=prompts, seed=prompt_seed)
        run.mkdir(parents=True, exist_ok=True)
        question.write(run / "question.json")
        total = len(question.cells)
        measure_in(
            source,
            run / "question.json",
            run,
            progress=lambda done: watcher.measured(str(source), done, total),
        )
    console = terminal(highlight=False, soft_wrap=True)
    print_run(run, write=lambda line: console.print(line, markup=False))


def sketch_accuracy(
    *,
    family: Names = None,
    elements: Annotated[int, typer.Option(help="weight elements to move, one at a time")] = 5,
) -> None:
    """Print how right a sketch's estimate of a drift is: real activations, one weight moved."""
    from rich.table import Table

    from harness.measure.accuracy import accuracies
    from harness.measure.fingerprint import STANDARD_ERROR

    selection = checked_selection(family=family or ["gpt2", "llama"])
    shown = Table(title="estimated ÷ true drift of a site, one weight element moved")
    columns = ("family", "moved by", "drifts", "median drift", "1 %", "99 %", "rms error", "stated")
    for column in columns:
        shown.add_column(column, justify="right")
    for name in selection.family:
        for found in accuracies(name, elements=elements):
            shown.add_row(
                name,
                f"{found.moved_by:.0e}",
                str(len(found.true)),
                f"{found.median_drift:.1e}",
                *(f"{found.quantile(share):.2f}" for share in (0.01, 0.99)),
                f"{found.rms_error:.1%}",
                f"{STANDARD_ERROR:.1%}",
            )
    terminal(width=_WIDTH).print(shown)


@baseline_app.command()
def accept(
    run: Annotated[Path, typer.Argument(help="the run's folder, or its name below reports/runs")],
    *,
    reason: Annotated[str, typer.Option(help="what changed, and why that is right")],
    name: Annotated[str, typer.Option(help="name below reports/baselines")] = "default",
) -> None:
    """Make a run the baseline: small files to be committed, gated against from now on."""
    from harness.judge.baseline import accept as accept_run

    folder = run if (run / "run.json").is_file() else _RUNS / run
    into = BASELINES / name
    described = accept_run(folder.resolve(), into, reason=reason)
    size = sum(file.stat().st_size for file in into.iterdir()) / 1e6
    print(f"{into}: {described['cells']} cells of {described['run_id']}, {size:.2f} MB")
    print(f"next: git add {into}; git commit")


@env_app.command("list")
def list_environments() -> None:
    """Print the environments, the one used last first."""
    from rich.table import Table

    from harness.versions.environments import environments

    table = Table("key", "asked for", "Python", "own MB", "last used")
    for each in environments():
        table.add_row(
            each.key,
            " ".join(each.requirements),
            each.python_version,
            f"{each.own_bytes / 1e6:.0f}",
            f"{each.used:%Y-%m-%d %H:%M}",
        )
    terminal().print(table)


@env_app.command()
def remove(
    key: Annotated[str, typer.Argument(help="the first letters of a key, or `all`")],
) -> None:
    """Remove an environment, or all of them."""
    from harness.versions.environments import remove as remove_environment

    for removed in remove_environment(key):
        print(f"removed {removed}")


def checked_selection(**axes: list[str] | None) -> Selection:
    """Give the selection of the options, every name checked.

    Raises:
        SelectionError: a name is not in the matrix.
    """
    from harness.known import check
    from harness.selection import Selection, values_of

    asked = Selection(**{axis: values_of(values or ()) for axis, values in axes.items()})
    check(asked)
    return asked


def no_baseline(profiles: tuple[str, ...]) -> str:
    """Say that there is no baseline of these profiles, and how there comes to be one."""
    name = "+".join(profiles)
    return (
        f"no run of --profile {name} was accepted yet\n"
        f"  next:    harness baseline accept latest --name {name} --reason ..."
    )


def accepted_baseline(
    given: Path | None, profiles: tuple[str, ...] = (DEFAULT.name,)
) -> Path | None:
    """Give the baseline that a run is gated against; None where none was ever accepted.

    Each profile has its own, by its name.

    Raises:
        RunFolderError: the one that was given is none.
    """
    from harness.judge.baseline import is_baseline

    if given is None:
        own = BASELINES / "+".join(profiles)
        return own if is_baseline(own) else None
    if not is_baseline(given):
        message = f"{given} is no baseline: it has no baseline.json; accept a run first"
        raise RunFolderError(message)
    return given


def gate_run(baseline: Path, run: Path, selection: Selection, *, whole: bool) -> int:
    """Gate a run that has just ended against a baseline, print it, and give the exit code.

    `whole` says that the run asked for every cell that the selection admits, so that one which the
    baseline has and the run has not is a loss.
    """
    from harness.gating import cells_in_common
    from harness.judge.gate import gate as judge
    from harness.judge.sides import read_side
    from harness.report import gates

    old, new = read_side(baseline), read_side(run)
    asked = cells_in_common(old, new, selection)
    found = judge(old, new, asked if whole else [name for name in asked if name in new.cells])
    gates.write_gate(found, run)
    _print_gate(found)
    # Cells that nobody can measure here are counted by the run itself.
    return found.exit_code if found.asked else 0


def _print_gate(found: Gate) -> None:
    from harness.report import gates

    console = _wide_console()
    if gates.has_rows(found):
        console.print(gates.table(found))
    else:
        console.print(gates.headline(found), markup=False)
    for line in filter(None, (gates.left_out(found), *gates.reasons(found))):
        console.print(line, markup=False)


def _wide_console() -> Console:
    """Give a console; where nobody's terminal has a width, one that fits the table."""
    console = terminal(highlight=False)
    return console if console.is_terminal else terminal(highlight=False, width=_WIDTH)


@contextmanager
def watching() -> Iterator[Watcher]:
    """Show how far the sides are, on stderr, so that stdout has the result alone."""
    from harness.gating import Watcher

    console = terminal(stderr=True, highlight=False)
    bars = progress_bar(console)
    tasks: dict[str, TaskID] = {}

    def measured(side: str, done: int, total: int) -> None:
        if side not in tasks:
            tasks[side] = bars.add_task(side, total=total)
        bars.update(tasks[side], completed=done)

    with bars:
        yield Watcher(say=lambda words: console.print(words, markup=False), measured=measured)
