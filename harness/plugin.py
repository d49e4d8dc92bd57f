"""The pytest plugin: options, the fixture `check_cell`, and the summary. Thin.

A test under `@pytest.mark.harness(*cases)` that asks for `cell` runs once per comparison, one
that asks for `probe_cell` once per probe.
"""

from __future__ import annotations

import datetime as dt
import gc
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness.case import BY_PROCESSING, Case, Cell
from harness.errors import RunFolderError, UsageError
from harness.judge.controls import chosen, uncaught
from harness.record import (
    GREEN,
    RED,
    asked_relation,
    finished_cells,
    pack,
    read_cells,
    read_controls,
    read_run,
)
from harness.selection import (
    AXES,
    Selection,
    cells_of,
    checked_relation,
    option_of,
    probe_cells_of,
    values_of,
)
from harness.sharding import Shard, divided, shard_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.measure.kept import KeptPort
    from harness.measure.references import References
    from harness.measure.run import CellResult
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner
    from harness.sharding import Part


@dataclass(slots=True, kw_only=True)
class Session:
    """What one pytest process knows of the run: where it is written, and what is asked."""

    run: Path
    selection: Selection
    plan: dict[str, Any]
    done: frozenset[str] = frozenset()
    controls: frozenset[str] = frozenset()
    uncaught: Sequence[str] = ()
    unpacked: str = ""
    references: References | None = None
    port: KeptPort | None = None
    shard: Shard | None = None
    part: Part | None = None


_SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that select cells and say how they are measured."""
    group = parser.getgroup("harness", "model-port-harness")
    for axis in AXES:
        group.addoption(
            option_of(axis),
            dest=axis,
            action="append",
            default=[],
            metavar="NAME",
            help=f"measure only this {axis}; repeat it or separate by commas",
        )
    group.addoption("--out", default="reports/runs", metavar="DIR", help="folder of runs")
    group.addoption("--run", default=None, metavar="ID", help="name of this run's folder")
    group.addoption("--resume", default=None, metavar="RUN", help="finish this run")
    group.addoption(
        "--prompts", type=int, default=3, metavar="N", help="prompts drawn beside the bank"
    )
    group.addoption(
        "--prompt-seed",
        default="0",
        metavar="SEED",
        help="seed of the drawn prompts; `today` takes the date, as nightly runs do",
    )
    group.addoption(
        "--trust-remote-code",
        action="append",
        default=[],
        metavar="CASE",
        help="run the Python files of this case's checkpoint; read them before",
    )
    group.addoption(
        "--relation",
        default=BY_PROCESSING,
        metavar="NAME",
        help="`equal` compares every site as it is, whatever the loading mode does to it",
    )
    group.addoption(
        "--shard",
        default=None,
        metavar="I/N",
        help="measure the i-th of n parts; `harness merge` makes one run of all of them",
    )
    group.addoption(
        "--shrink-seconds",
        type=float,
        default=20.0,
        metavar="S",
        help="time to look for the smallest failing prompt of a cell",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options; the controller names the run, its workers are told."""
    config.addinivalue_line("markers", "harness(*cases): the cases whose cells the test runs on")
    try:
        config.stash[_SESSION] = _session(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


def _session(config: pytest.Config) -> Session:
    selection = Selection(**{axis: values_of(config.getoption(axis)) for axis in AXES})
    if any(getattr(selection, axis) for axis in AXES):
        from harness.known import check

        check(selection)
    if trusted := config.getoption("trust_remote_code"):
        from harness.models.remote_code import trust

        trust(trusted)
    plan = {
        "drawn": config.getoption("prompts"),
        "seed": _seed(config.getoption("prompt_seed")),
        "shrink_seconds": config.getoption("shrink_seconds"),
        "relation": checked_relation(config.getoption("relation")),
    }
    asked = config.getoption("shard")
    shard = None if asked is None else shard_named(asked)
    if resumed := config.getoption("resume"):
        run = Path(resumed).resolve()
        stored = read_run(run)
        _check_relation(plan["relation"], asked_relation(stored))
        shard = _resumed_shard(shard, stored)
        if selection == Selection():
            selection = Selection(
                **{axis: tuple(names) for axis, names in stored["selection"].items()}
            )
        done = finished_cells(run)
        if done:
            read_cells(run)  # a part that cannot be read is told before hours are spent
        plan = stored["plan"]
        return Session(run=run, selection=selection, plan=plan, done=done, shard=shard)
    if told := getattr(config, "workerinput", {}).get("harness_run"):
        return Session(run=Path(told), selection=selection, plan=plan, shard=shard)
    now = dt.datetime.now(dt.timezone.utc)
    name = config.getoption("run") or f"{now:%Y%m%dT%H%M%S}-{os.getpid()}"
    run = (config.invocation_params.dir / config.getoption("out") / name).resolve()
    if (run / "run.json").exists():
        message = f"{run} is there already; --resume it, or give another --run"
        raise RunFolderError(message)
    return Session(run=run, selection=selection, plan=plan, shard=shard)


def _resumed_shard(asked: Shard | None, stored: dict[str, Any]) -> Shard | None:
    """Give the shard that a run was begun as; nobody makes another one of it."""
    part = stored.get("shard")
    begun = None if part is None else Shard(index=part["index"], count=part["count"])
    if asked not in {None, begun}:
        message = (
            f"--shard {asked}: this run was begun as {begun or 'a whole one'}; "
            "leave it out, or begin anew"
        )
        raise UsageError(message)
    return begun


def _check_relation(asked: str, begun: str) -> None:
    if asked not in {BY_PROCESSING, begun}:
        message = (
            f"--relation {asked}: this run was begun with {begun}; leave it out, or begin anew"
        )
        raise UsageError(message)


def _seed(words: str) -> int:
    if words == "today":
        return dt.datetime.now(dt.timezone.utc).toordinal()
    try:
        return int(words)
    except ValueError as error:
        message = f"--prompt-seed {words!r} is neither a whole number nor `today`"
        raise UsageError(message) from error


def pytest_configure_node(node: Any) -> None:
    """Tell a pytest-xdist worker where the run is written."""
    node.workerinput["harness_run"] = str(node.config.stash[_SESSION].run)


_CELLS: Final = {"cell": cells_of, "probe_cell": probe_cells_of}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for cells once per cell of the cases on its mark."""
    mark = metafunc.definition.get_closest_marker("harness")
    selection = metafunc.config.stash[_SESSION].selection
    for name, cells in _CELLS.items():
        if name in metafunc.fixturenames and mark is not None:
            cases = _cases_of(mark, selection)
            _check_cases(cases, metafunc.definition.nodeid)
            found = cells(cases, selection) if cases else ()
            metafunc.parametrize(name, [pytest.param(cell, id=cell.id) for cell in found])


def _cases_of(mark: pytest.Mark, selection: Selection) -> tuple[Any, ...] | None:
    """Give the cases on a mark: those that it names, or what its function gives.

    Such a function is called only where its profile is asked for; else there is None.
    """
    profile = mark.kwargs.get("profile")
    if profile is None:
        return mark.args
    if profile not in selection.profiles:
        return None
    return tuple(case for give in mark.args for case in give())


def _check_cases(cases: tuple[object, ...] | None, test: str) -> None:
    if cases is None:
        return
    if not cases:
        message = f"{test}: @pytest.mark.harness has no cases"
        raise pytest.UsageError(message)
    for case in cases:
        if not isinstance(case, Case):
            message = (
                f"{test}: @pytest.mark.harness has a {type(case).__name__}, but should have cases; "
                "write @pytest.mark.harness(*CASES)"
            )
            raise pytest.UsageError(message)
    names = Counter(case.id for case in cases if isinstance(case, Case))
    if twice := [name for name, number in names.items() if number > 1]:
        message = f"{test}: several cases have one name, and would be one cell: {', '.join(twice)}"
        raise pytest.UsageError(message)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send all cells of a case to one worker: they share its reference and its oracle.

    xdist's own `loadgroup` renames tests in a way that pytest 9.2 no longer lets it.
    """
    if config.getoption("dist") not in {"load", "loadgroup"}:
        return None
    from harness.scheduling import ByCase

    return ByCase(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cells that are not asked for, and those that a resumed run has already."""
    session = config.stash[_SESSION]

    selected = [
        cell for cell in map(_cell_of, items) if cell is not None and session.selection.admits(cell)
    ]
    own = frozenset(cell.id for cell in selected)
    if session.shard is not None:
        own, session.part = divided(selected, session.shard)

    def wanted(item: pytest.Item) -> bool:
        cell = _cell_of(item)
        if cell is None:
            return not _is_empty(item)
        return cell.id in own and cell.id not in session.done

    left_out = [item for item in items if not wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if wanted(item)]
    if (
        not session.done
    ):  # a resumed run has most of its controls; what lacks one gets it at the end
        cells = [cell for cell in map(_cell_of, items) if cell is not None]
        session.controls = chosen(cells, seed=session.run.name)


def _is_empty(item: pytest.Item) -> bool:
    """Say whether a test of cells got none: pytest would count it as skipped."""
    spec = getattr(item, "callspec", None)
    is_ours = item.get_closest_marker("harness") is not None
    return is_ours and spec is not None and any(name in spec.params for name in _CELLS)


def _cell_of(item: pytest.Item) -> Cell | None:
    spec = getattr(item, "callspec", None)
    found = [] if spec is None else [spec.params.get(name) for name in _CELLS]
    # This is a plugin of every session: a parameter of another project may be called `cell` too.
    return next((each for each in found if isinstance(each, Cell)), None)


@pytest.fixture
def check_cell(request: pytest.FixtureRequest) -> Callable[[Cell], CellResult]:
    """Measure a cell, write its rows, and fail, skip or pass with its verdict."""
    session = request.config.stash[_SESSION]

    def check(cell: Cell) -> CellResult:
        result = _measured(cell, session)
        if result.verdict == "unavailable":
            pytest.skip(f"{cell}: {result.row['reason']}")
        if result.verdict not in GREEN:
            from harness.report.words import failure_message

            pytest.fail(failure_message(result.row, result.deltas, result.prompts), pytrace=False)
        return result

    return check


def _measured(cell: Cell, session: Session) -> CellResult:
    from harness.measure.kept import KeptPort
    from harness.measure.references import References
    from harness.measure.run import Plan, measure_cell
    from harness.measure.writing import open_run, write_result
    from harness.teeth.control import plant_control

    if session.references is None or session.port is None:
        # What is there by now stays, and need not be gone through again for each checkpoint.
        gc.collect()
        gc.freeze()
        session.references, session.port = References(), KeptPort()
        open_run(
            session.run,
            selection=session.selection.asked(),
            plan=session.plan,
            part=None if session.part is None else session.part.stored(),
        )
    plan = Plan(**session.plan)
    loaded: list[Runner] = []

    def load(cell: Cell, checkpoint: Checkpoint) -> Runner:
        loaded.append(port(cell, checkpoint))
        return loaded[0]

    port = session.port
    carries = cell.id in session.controls
    result = measure_cell(
        cell,
        run_id=session.run.name,
        references=session.references,
        plan=plan,
        load=load if carries else port,
    )
    write_result(session.run, result)
    if carries and result.verdict == "pass":
        plant_control(session.run, cell, session.references, loaded[0])
    return result


_WHOLE: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
"""A session that ended so has measured all that it was asked for."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep a run from being green that measured nothing, has a red cell, or a control uncaught."""
    state = session.config.stash[_SESSION]
    if hasattr(session.config, "workerinput") or not (state.run / "run.json").is_file():
        return
    if session.exitstatus not in _WHOLE or not finished_cells(state.run):
        return
    from harness.teeth.control import plant_missing

    cells = read_cells(state.run)
    plant_missing(state.run, cells)
    state.uncaught = uncaught(cells, read_controls(state.run))
    try:
        pack(state.run)
    except (OSError, RunFolderError) as error:  # a full disk: every row is there, in its part
        state.unpacked = f"NOT PACKED: {error}; next: harness pack {state.run.name}"
    if session.exitstatus == pytest.ExitCode.TESTS_FAILED:
        return
    verdicts = set(cells.verdict)
    if verdicts == {"unavailable"}:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
    elif verdicts & RED or state.uncaught:  # RED in cells that it had before it was resumed
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of the run, its failures and what was not measured."""
    session = config.stash[_SESSION]
    if hasattr(config, "workerinput") or not (session.run / "run.json").is_file():
        return
    from harness.report.words import print_run

    terminalreporter.ensure_newline()
    print_run(session.run, write=terminalreporter.write_line)
    for line in (*session.uncaught, *filter(None, [session.unpacked])):
        terminalreporter.write_line(line)
