from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from packaging.requirements import Requirement

from harness.case import Case, Cell
from harness.errors import EnvironmentUnavailable, RequirementError, UsageError
from harness.gating import Plan, Watcher
from harness.measure.references import References
from harness.measure.run import Plan as CellPlan
from harness.measure.run import measure_cell
from harness.measure.writing import open_run, write_result
from harness.searching import sweeping
from harness.searching.probing import Ground
from harness.searching.sweeping import UNBUILT, default_grid, grid_of, run_sweep, schema
from harness.selection import Selection

GPT2 = Selection(family=("gpt2",), mode=("hf_sdpa",), dtype=("float32",))


def test_the_default_grid_names_exact_releases_each_once():
    grid = default_grid()
    assert len(grid) == len(set(grid)) >= 11
    for spec in grid:
        names = [Requirement(word) for word in spec.split()]
        assert {each.name for each in names} == {"transformer-lens", "transformers"}
        assert all(str(each.specifier).startswith("==") for each in names)


def test_specs_and_releases_of_a_package_are_swept_and_else_the_grid():
    assert grid_of(["torch==2.6"], "", []) == ("torch==2.6",)
    assert grid_of([], "transformer-lens", ["3.0", "3.9.0"]) == (
        "transformer-lens==3.0",
        "transformer-lens==3.9.0",
    )
    assert grid_of([], "", []) == default_grid()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([], "torch", []), UsageError, "go together"),
        (([], "", ["2.0"]), UsageError, "go together"),
        ((["torch==2", "torch==2"], "", []), UsageError, "twice"),
        ((["git+https://x/y"], "", []), RequirementError, "not a requirement"),
        (([], "torch; rm", ["2"]), RequirementError, "not a requirement"),
        ((["torch==2", ""], "", []), RequirementError, "names no package"),
    ],
)
def test_a_grid_that_cannot_be_swept_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        grid_of(*arguments)


def test_every_column_says_what_it_holds():
    assert all(field.metadata[b"doc"] for field in schema())


@pytest.fixture
def sweep(monkeypatch, tmp_path):
    """Give a function that sweeps; it measures in this process, whatever the spec."""

    def environment_of(spec, prefer, ground):
        del prefer, ground
        if "absent" in spec:
            message = "absent==1: there is no such release\n  found:   none\n  next:    another"
            raise RequirementError(message)
        versions = {"torch": "2", "transformers": spec.partition("==")[2] or "3"}
        environment = SimpleNamespace(python_version="3.11", versions=versions)
        return sweeping_subject(environment, versions)

    def sweeping_subject(environment, versions):
        return SimpleNamespace(environment=environment, versions=versions)

    measured = []

    def measure(subject, question, run, *, progress):
        del question, progress
        measured.append(subject)
        open_run(run, selection={}, plan={})
        cell = Cell(case=Case(family="gpt2"), loading_mode="hf_sdpa", dtype="float32")
        plan = CellPlan(drawn=0, shrink_seconds=0.0)
        write_result(run, measure_cell(cell, run_id="r", references=References(), plan=plan))

    monkeypatch.setattr(sweeping, "subject_for", environment_of)
    monkeypatch.setattr(sweeping, "measure_in", measure)
    monkeypatch.setattr(
        sweeping,
        "import_failures",
        lambda subject: {"transformers": "no"} if subject.versions["transformers"] == "9" else {},
    )

    def run(*specs):
        ground = Ground(
            selection=GPT2,
            plan=Plan(out=tmp_path, drawn=0),
            watcher=Watcher(say=lambda _: None, measured=lambda *_: None),
            heard=lambda _: None,
        )
        return run_sweep(specs, ground)

    return run


def test_each_spec_gives_rows_and_one_that_cannot_be_had_says_so(sweep):
    found = sweep("transformers==1", "absent==1", "transformers==9")
    assert [(row["spec"], row["verdict"], row["reason"]) for row in found.rows] == [
        ("transformers==1", "pass", None),
        ("absent==1", UNBUILT, "absent==1: there is no such release found:   none"),
        ("transformers==9", UNBUILT, "transformers does not import: no"),
    ]
    table = pq.read_table(found.file)
    assert table.schema.equals(schema(), check_metadata=True)
    assert table.column("transformers").to_pylist() == ["1", None, "9"]


def test_specs_that_read_alike_are_not_measured_into_one_folder(sweep, tmp_path):
    found = sweep("transformers==1", "transformers>=1")
    assert [row["transformers"] for row in found.rows] == ["1", "3"]
    assert len(list(tmp_path.glob("transformers-1-*"))) == 2


def test_a_sweep_in_which_nothing_can_be_had_is_an_error(sweep):
    with pytest.raises(UsageError, match=r"(?s)none of the 2 specs.*absent==1.*next:"):
        sweep("absent==1", "absent==2")


def test_an_environment_that_breaks_off_is_a_column_that_says_so(sweep, monkeypatch):
    def broken(*_, **__):
        message = "the worker ended with code -9"
        raise EnvironmentUnavailable(message)

    sweep("transformers==1")
    monkeypatch.setattr(sweeping, "measure_in", broken)
    with pytest.raises(UsageError, match="code -9"):
        sweep("transformers==2")
