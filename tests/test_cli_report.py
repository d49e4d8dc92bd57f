"""`harness report`: a page of a run by its name, of a gate by its folder, and what is refused."""

import sys
from xml.etree import ElementTree as ET

import pytest

from harness import cli
from harness.case import Case, Cell
from harness.judge.gate import Gate, GateCell
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run, write_result
from harness.report.gates import write_gate


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Give a function that calls the command beside a run and a gate: code, output, errors."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "reports/runs/a-run"
    open_run(run, selection={}, plan={})
    cell = Cell(case=Case(family="gpt2"), loading_mode="hf_sdpa", dtype="exact")
    plan = Plan(drawn=0)
    write_result(run, measure_cell(cell, run_id="a-run", references=References(), plan=plan))
    axes = {"family": "gpt2", "variant": "default", "checkpoint": "synthetic", "device": "cpu"}
    moved = GateCell(
        **axes, cell_id="c", loading_mode="bridge", dtype="exact", verdict="broke", worse=True
    )
    write_gate(Gate(baseline="old", candidate="new", cells=(moved,)), tmp_path / "a-gate")

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", "report", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capfd.readouterr()
        return left.value.code or 0, said.out, said.err

    return run_command


@pytest.mark.parametrize(("what", "title"), [("a-run", "a-run"), ("a-gate", "old → new")])
def test_a_page_is_written_of_a_run_or_a_gate(what, title, call, tmp_path):
    code, out, _ = call(what, "--html", "pages/it.html")
    assert (code, out.startswith("written: pages/it.html, "), title in out) == (0, True, True)
    assert f"<title>{title}</title>" in (tmp_path / "pages/it.html").read_text()


def test_a_summary_is_printed_or_written(call, tmp_path):
    for asked in (("a-gate",), ("a-gate", "--markdown", "-")):
        code, out, _ = call(*asked)
        assert (code, out.startswith("### ✗ worse: old → new")) == (0, True)
    code, _, _ = call("a-run", "--markdown", "summary.md")
    assert code == 0
    told = (tmp_path / "summary.md").read_text().splitlines()
    # No control is planted by whoever measures a cell alone, so that its green proves nothing.
    assert told[0] == "### ✗ a-run: 1 pass"
    assert told[2].startswith("**First:** NO CONTROL of gpt2 through transformers")


def test_a_run_is_written_as_junit_and_a_gate_has_its_own(call, tmp_path):
    assert call("a-run", "--junit", "run.xml")[0] == 0
    suite = ET.parse(tmp_path / "run.xml").getroot()  # noqa: S314 - it is ours
    # One cell, and the control that nobody planted.
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "0")
    assert suite.find("testcase[@classname='controls']/failure") is not None
    assert call("a-gate", "--junit", "run.xml")[0] == 2


def test_red_cells_are_annotated(call):
    code, out, _ = call("a-gate", "--annotations")
    assert (code, out.splitlines()) == (0, ["::error title=c::broke"])
    assert call("a-run", "--annotations")[1] == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("another", "--html", "it.html"), "another is not a run"),
        (("another",), "another is not a run"),
        (("a-run", "--html", "reports"), "is a folder"),
    ],
)
def test_what_cannot_be_written_is_refused(arguments, said, call, tmp_path):
    code, _, errors = call(*arguments)
    assert (code, said in errors) == (2, True)
    assert not (tmp_path / "it.html").exists()
