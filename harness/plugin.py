"""The pytest plugin: options, the fixture `check_cell`, and the summary. Thin.

A test that asks for `cell` and stands under `@pytest.mark.harness(*cases)` runs once per cell.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.case import Cell
from harness.errors import UsageError
from harness.record import GREEN, finished_cells, read_run
from harness.selection import AXES, Selection, cells_of, check_names, values_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.measure.references import References
    from harness.measure.run import CellResult


@dataclass(slots=True, kw_only=True)
class Session:
    """What one pytest process knows of the run: where it is written, and what is asked."""

    run: Path
    selection: Selection
    plan: dict[str, Any]
    done: frozenset[str] = frozenset()
    references: References | None = None
    results: list[CellResult] = field(default_factory=list)


_SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that select cells and say how they are measured."""
    group = parser.getgroup("harness", "model-port-harness")
    for axis in AXES:
        group.addoption(
            f"--{axis}",
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
        from harness.models.families import FAMILIES

        variants = {name for family in FAMILIES.values() for name in family.variant_names}
        check_names(selection, families=FAMILIES, variants=variants)
    done: frozenset[str] = frozenset()
    told = getattr(config, "workerinput", {}).get("harness_run")
    if resumed := config.getoption("resume"):
        run = Path(resumed).resolve()
        read_run(run)
        done = finished_cells(run)
    elif told:
        run = Path(told)
    else:
        now = dt.datetime.now(dt.timezone.utc)
        name = config.getoption("run") or f"{now:%Y%m%dT%H%M%S}-{os.getpid()}"
        run = (config.invocation_params.dir / config.getoption("out") / name).resolve()
    seed = config.getoption("prompt_seed")
    plan = {
        "drawn": config.getoption("prompts"),
        "seed": dt.datetime.now(dt.timezone.utc).toordinal() if seed == "today" else int(seed),
        "shrink_seconds": config.getoption("shrink_seconds"),
    }
    return Session(run=run, selection=selection, plan=plan, done=done)


def pytest_configure_node(node: Any) -> None:
    """Tell a pytest-xdist worker where the run is written."""
    node.workerinput["harness_run"] = str(node.config.stash[_SESSION].run)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `cell` once per cell of the cases on its mark."""
    mark = metafunc.definition.get_closest_marker("harness")
    if "cell" not in metafunc.fixturenames or mark is None:
        return
    cells = cells_of(mark.args, metafunc.config.stash[_SESSION].selection)
    if not cells:
        message = f"{metafunc.definition.nodeid}: @pytest.mark.harness has no cases"
        raise pytest.UsageError(message)
    metafunc.parametrize(
        "cell",
        [pytest.param(cell, id=cell.id) for cell in cells],
    )


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

    def wanted(item: pytest.Item) -> bool:
        cell = _cell_of(item)
        return cell is None or (session.selection.admits(cell) and cell.id not in session.done)

    left_out = [item for item in items if not wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if wanted(item)]


def _cell_of(item: pytest.Item) -> Cell | None:
    spec = getattr(item, "callspec", None)
    found = None if spec is None else spec.params.get("cell")
    # This is a plugin of every session: a parameter of another project may be called `cell` too.
    return found if isinstance(found, Cell) else None


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
    from harness.measure.references import References
    from harness.measure.run import Plan, measure_cell
    from harness.measure.writing import open_run, write_result

    if session.references is None:
        session.references = References()
        open_run(session.run, selection=session.selection.words(), plan=session.plan)
    plan = Plan(**session.plan)
    result = measure_cell(cell, run_id=session.run.name, references=session.references, plan=plan)
    write_result(session.run, result)
    return result


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of the run, its failures and what was not measured."""
    session = config.stash[_SESSION]
    if hasattr(config, "workerinput") or not (session.run / "run.json").is_file():
        return
    from harness.report.words import print_run

    terminalreporter.ensure_newline()
    print_run(session.run, write=terminalreporter.write_line)
