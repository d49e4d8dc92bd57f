"""The pytest plugin: options, the fixture `check_cell`, and the summary. Thin.

A test under `@pytest.mark.harness(*cases)` that asks for `cell` runs once per comparison, one
that asks for `probe_cell` once per probe.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import os
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness.case import BY_PROCESSING, Case, Cell
from harness.errors import RunFolderError, UsageError
from harness.judge.controls import chosen, uncaught, without_control
from harness.record import (
    GREEN,
    RED,
    asked_relation,
    finished_cells,
    pack,
    read_cells,
    read_controls,
    read_run,
    require,
)
from harness.selection import (
    AXES,
    Selection,
    cells_of,
    checked_relation,
    option_of,
    probe_cells_of,
    selection_of,
    values_of,
)
from harness.sharding import Shard, divided, shard_named
from harness.storing import cannot_write
from harness.surroundings import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.cluster.loop import Order
    from harness.cluster.outcomes import Recorder
    from harness.cluster.piece import Piece
    from harness.measure.kept import KeptPort
    from harness.measure.references import References
    from harness.measure.run import CellResult
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner
    from harness.record import Row
    from harness.sharding import Part


LOCAL: Final = "local"
EXECUTORS: Final = (LOCAL, "ray")
CELL_SECONDS: Final = 3600.0
"""How long a cell may take.

Source: an hour is 400 cells of gpt2-small's shape (docs/decisions/0021-shards-know-the-whole.md).
"""


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
    order: Order | None = None
    piece: Piece | None = None
    asked: int = 0
    recorder: Recorder | None = None


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
    _add_options_of_clusters(group)


def _add_options_of_clusters(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--executor",
        default=LOCAL,
        choices=EXECUTORS,
        help="who measures cells: this machine, or the nodes of a Ray cluster",
    )
    group.addoption(
        "--address",
        default="auto",
        metavar="ADDRESS",
        help="of the Ray cluster: auto, host:port, or `local` for a small one of this machine",
    )
    group.addoption(
        "--rows",
        default=None,
        metavar="URL",
        help="where nodes write rows: file, s3, gs and others; by default the run's own folder, "
        "which all nodes must share",
    )
    group.addoption(
        "--cell-timeout",
        type=float,
        default=CELL_SECONDS,
        metavar="S",
        help="a cell that takes longer is an error",
    )
    group.addoption("--piece", default=None, help=argparse.SUPPRESS)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options; the controller names the run, its workers are told."""
    config.addinivalue_line("markers", "harness(*cases): the cases whose cells the test runs on")
    try:
        config.stash[_SESSION] = _session(config)
    except UsageError as error:
        raise pytest.UsageError(without_secrets(str(error))) from error
    _guard(config, config.stash[_SESSION])


def _guard(config: pytest.Config, state: Session) -> None:
    """Register what sees to it that a cell which breaks its process, or hangs, is an error."""
    if state.order is not None:
        return  # a cluster's subprocesses are watched by its nodes
    from harness.guarding import Alone, Guard, Worker
    from harness.watching import Watch

    timeout = config.getoption("cell_timeout")
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker())
    elif config.getoption("dist", "no") != "no":
        config.pluginmanager.register(Watch(state.run, timeout))
        return
    elif state.piece is None:
        alone = Alone(state.run, cell_timeout=timeout, cell_of=_cell_of)
        config.pluginmanager.register(alone)

    def row_of(cell: Cell) -> Row:
        from harness.measure.run import lost_row

        return lost_row(cell, state.run.name, reason="", seconds=0.0)

    guard = Guard(state.run, open_run=partial(_open, state), cell_of=_cell_of, row_of=row_of)
    config.pluginmanager.register(guard)


def _session(config: pytest.Config) -> Session:
    if told := config.getoption("piece"):
        return _session_of(Path(told), config)
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
    order = _order(config)
    asked = config.getoption("shard")
    shard = None if asked is None else shard_named(asked)
    if resumed := config.getoption("resume"):
        run = Path(resumed).resolve()
        asked = Session(run=run, selection=selection, plan=plan, shard=shard, order=order)
        return _resumed(asked, worker=hasattr(config, "workerinput"))
    if told := getattr(config, "workerinput", {}).get("harness_run"):
        return Session(run=Path(told), selection=selection, plan=plan, shard=shard)
    now = dt.datetime.now(dt.timezone.utc)
    name = config.getoption("run") or f"{now:%Y%m%dT%H%M%S}-{os.getpid()}"
    if Path(name).name != name or name.startswith("."):
        message = f"--run {name!r} is no plain name; its folder is in --out, which may be a path"
        raise UsageError(message)
    run = (config.invocation_params.dir / config.getoption("out") / name).resolve()
    if (run / "run.json").exists():
        message = f"{run} is there already; --resume it, or give another --run"
        raise RunFolderError(message)
    return Session(run=run, selection=selection, plan=plan, shard=shard, order=order)


def _resumed(asked: Session, *, worker: bool) -> Session:
    """Give the session that finishes a run, from what is asked now and what was then."""
    stored = read_run(asked.run)
    require(asked.run, stored, "selection", "plan", "packages", "python")
    if not worker:  # the controller has asked
        from harness.provenance import check_same_releases

        check_same_releases(asked.run, stored)
    _check_relation(asked.plan["relation"], asked_relation(stored))
    asked.shard = _resumed_shard(asked.shard, stored)
    if asked.selection == Selection():
        asked.selection = selection_of(stored)
    asked.done = finished_cells(asked.run)
    if asked.done:
        read_cells(asked.run)  # a part that cannot be read is told before hours are spent
    asked.plan = stored["plan"]
    return asked


def _session_of(file: Path, config: pytest.Config) -> Session:
    """Give the session of a subprocess that a node of a cluster started: it asks as it is told."""
    from harness.cluster.orphan import end_with
    from harness.cluster.outcomes import Recorder
    from harness.cluster.piece import Piece
    from harness.models.remote_code import trust
    from harness.provenance import gather

    piece = Piece.read(file)
    end_with(piece.parent)
    piece.check(gather())
    trust(piece.trusted)
    run = file.parent / piece.run_id
    recorder = Recorder(config, run)
    config.pluginmanager.register(recorder)
    selection = Selection(**{axis: tuple(names) for axis, names in piece.selection.items()})
    return Session(
        run=run, selection=selection, plan=dict(piece.plan), piece=piece, recorder=recorder
    )


def _order(config: pytest.Config) -> Order | None:
    """Give what is asked of a cluster; None where this machine measures."""
    if config.getoption("executor") == LOCAL:
        return None
    from harness.cluster.loop import Order

    if config.getoption("dist", "no") != "no":
        message = "--executor ray and -n both spread cells: leave one of them out"
        raise UsageError(message)
    return Order(
        address=config.getoption("address"),
        rows=config.getoption("rows"),
        cell_timeout=config.getoption("cell_timeout"),
    )


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
    state = metafunc.config.stash[_SESSION]
    selection = state.selection
    for name, cells in _CELLS.items():
        if name in metafunc.fixturenames and mark is not None:
            cases = _cases_of(mark, selection)
            _check_cases(cases, metafunc.definition.nodeid)
            found = cells(cases, selection) if cases else ()
            if state.piece is not None:  # of thousands it has a few
                found = tuple(cell for cell in found if cell.id in state.piece.cells)
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
    from harness.begun import has_begun
    from harness.scheduling import ByCase, cell_of

    run = config.stash[_SESSION].run
    return ByCase(config, log, begun=lambda test: has_begun(run, cell_of(test) or ""))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cells that are not asked for, and those that a resumed run has already."""
    session = config.stash[_SESSION]
    if session.piece is not None and session.recorder is not None:
        session.controls = frozenset(session.piece.controls)
        session.recorder.cells = _kept(items, session.piece)
        return
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


def _kept(items: list[pytest.Item], piece: Piece) -> dict[str, str]:
    """Leave out what is not the piece's; name the cell of each test that stays."""
    names = {item.nodeid: cell.id for item in items if (cell := _cell_of(item)) is not None}
    items[:] = [item for item in items if names.get(item.nodeid) in piece.cells]
    return names


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the cells to be measured that are left once all have left out theirs."""
    from harness.guarding import measures

    cells = {cell.id for cell in map(_cell_of, filter(measures, session.items)) if cell is not None}
    session.config.stash[_SESSION].asked = len(cells)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Have a cluster measure the cells, if it is asked for; else pytest's own loop does."""
    state = session.config.stash[_SESSION]
    collected = not session.testsfailed and not session.config.getoption("collectonly")
    if state.order is None or not collected:
        return None
    try:
        from harness.cluster.loop import run_items
        from harness.guarding import hold

        with ExitStack() as ends:
            if any(map(_cell_of, session.items)):
                hold(state.run, ends)
            run_items(
                session,
                state.order,
                run=state.run,
                resumed=bool(session.config.getoption("resume")),
                cell_of=_cell_of,
                controls=state.controls,
                selection=state.selection.asked(),
                plan=state.plan,
                part=None if state.part is None else state.part.stored(),
                asked=_asked(state, session.config),
            )
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    return True


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
        result = _measured(cell, session, request.session)
        if result.verdict == "unavailable":
            pytest.skip(f"{cell}: {result.row['reason']}")
        if result.verdict not in GREEN:
            from harness.report.words import failure_message

            pytest.fail(failure_message(result.row, result.deltas, result.prompts), pytrace=False)
        return result

    return check


def _asked(session: Session, config: pytest.Config) -> dict[str, Any]:
    """Give how many cells the session is to measure, and pytest's -k, if that left some out."""
    keyword = config.option.keyword
    return {"cells": session.asked, **({"keyword": keyword} if keyword else {})}


def _open(session: Session, asking: pytest.Session) -> tuple[References, KeptPort]:
    """Open the run, once per process; give what its cells share."""
    if session.references is not None and session.port is not None:
        return session.references, session.port
    from harness.measure.kept import KeptPort
    from harness.measure.references import References
    from harness.measure.writing import open_run
    from harness.watching import watched

    # What is there by now stays, and need not be gone through again for each checkpoint.
    gc.collect()
    gc.freeze()
    open_run(
        session.run,
        selection=session.selection.asked(),
        plan=session.plan,
        part=None if session.part is None else session.part.stored(),
        asked=_asked(session, asking.config),
    )
    if hasattr(asking.config, "workerinput"):
        watched(session.run)
    session.references, session.port = References(), KeptPort()
    return session.references, session.port


def _measured(cell: Cell, session: Session, asking: pytest.Session) -> CellResult:
    from harness.guarding import written
    from harness.measure.run import Plan, measure_cell
    from harness.measure.writing import write_result
    from harness.teeth.control import plant_control

    with written(session.run, asking):
        references, port = _open(session, asking)
    plan = Plan(**session.plan)
    loaded: list[Runner] = []

    def load(cell: Cell, checkpoint: Checkpoint) -> Runner:
        loaded.append(port(cell, checkpoint))
        return loaded[0]

    carries = cell.id in session.controls
    result = measure_cell(
        cell,
        run_id=session.run.name,
        references=references,
        plan=plan,
        load=load if carries else port,
    )
    with written(session.run, asking):
        write_result(session.run, result)
        if carries and result.verdict == "pass":
            plant_control(session.run, cell, references, loaded[0])
    return result


def _is_of_another(config: pytest.Config) -> bool:
    """Say whether another process ends the run and tells of it: xdist's, or a cluster's driver."""
    return hasattr(config, "workerinput") or config.stash[_SESSION].piece is not None


_WHOLE: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
"""A session that ended so has measured all that it was asked for."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep a run from being green that measured nothing, has a red cell, or a control uncaught."""
    state = session.config.stash[_SESSION]
    if _is_of_another(session.config) or not (state.run / "run.json").is_file():
        return
    if session.exitstatus not in _WHOLE or not finished_cells(state.run):
        return
    cells = read_cells(state.run)
    try:
        if not without_control(cells, read_controls(state.run)).empty:
            # It knows models: a cluster's driver need not.
            from harness.teeth.control import plant_missing

            plant_missing(state.run, cells)
    except OSError as error:
        state.unpacked = cannot_write(state.run, error, then=f"--resume {state.run}")
        session.exitstatus = pytest.ExitCode.INTERRUPTED
        return
    state.uncaught = uncaught(cells, read_controls(state.run))
    try:
        pack(state.run)
    except OSError as error:  # a full disk: every row is there, in its part
        state.unpacked = f"NOT PACKED: {error}; next: harness pack {state.run.name}"
    except RunFolderError as error:  # rows that cannot be read are evidence of nothing
        state.unpacked = f"NOT PACKED: {error}"
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if session.exitstatus == pytest.ExitCode.TESTS_FAILED:
        return
    verdicts = set(cells.verdict)
    if verdicts == {"unavailable"}:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
    elif verdicts & RED or state.uncaught:  # RED in cells that it had before it was resumed
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: Any, exitstatus: pytest.ExitCode, config: pytest.Config
) -> None:
    """Print the table of the run, its failures and what was not measured."""
    session = config.stash[_SESSION]
    if _is_of_another(config) or not (session.run / "run.json").is_file():
        return
    from harness.report.words import print_run

    terminalreporter.ensure_newline()
    if exitstatus not in _WHOLE:
        terminalreporter.write_line(f"NOT WHOLE; next: harness run --resume {session.run}")
    if not finished_cells(session.run):
        return
    print_run(session.run, write=terminalreporter.write_line)
    for line in (*session.uncaught, *filter(None, [session.unpacked])):
        terminalreporter.write_line(line)
