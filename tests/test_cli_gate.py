import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli, cli_gate
from harness.case import Case, Cell
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run, write_result
from harness.models.ports import load_port
from harness.record import read_cells, read_run, write_sealed
from harness.selection import Selection

SITE, WEIGHT = "blocks.1.mlp_out", "transformer.h.1.mlp.c_proj.weight"
SDPA = "gpt2-default.hf_sdpa.exact"
CELL, LLAMA = (
    Cell(case=Case(family=family), loading_mode="hf_sdpa", dtype="exact")
    for family in ("gpt2", "llama")
)
ONE_CELL = (
    *("--family", "gpt2", "--variant", "default", "--mode", "hf_sdpa", "--dtype", "exact"),
    *("--probe", "none"),
)
CASES = """
import pytest
from harness import Case

@pytest.mark.harness(Case(family="gpt2"))
def test_port_agrees(cell, check_cell):
    check_cell(cell)
"""
FAULT = f"""
import pytest
from harness.models.ports import huggingface

@pytest.fixture(autouse=True)
def fault(monkeypatch):
    load = huggingface.load

    def load_faulty(cell, checkpoint, attention):
        runner = load(cell, checkpoint, attention=attention)
        if attention == "sdpa":
            runner.model.get_parameter("{WEIGHT}").data[2, 3] += 1e-3
        return runner

    monkeypatch.setattr(huggingface, "load", load_faulty)
"""


def faulty(cell, checkpoint):
    """Load a port with one weight element moved."""
    runner = load_port(cell, checkpoint)
    runner.model.get_parameter(WEIGHT).data[2, 3] += 1e-3
    return runner


def record(run, *, load=load_port):
    open_run(run, selection={}, plan={})
    write_result(run, measured(CELL, run_id=run.name, load=load))


def measured(cell, *, run_id, load=load_port):
    plan = Plan(drawn=0, shrink_seconds=0.0)
    return measure_cell(cell, run_id=run_id, references=References(), plan=plan, load=load)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Give a folder with two recorded runs: a right one, and one with a fault in the port."""
    folder = tmp_path_factory.mktemp("recorded") / "reports" / "runs"
    record(folder / "right")
    record(folder / "wrong", load=faulty)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def here(folder, runs):
    """Be in a folder with the two recorded runs."""
    shutil.copytree(runs, folder / "reports" / "runs", symlinks=True)
    return folder


@pytest.fixture
def call(monkeypatch, capfd):
    """Give a function that calls the command in this process: exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capfd.readouterr()
        return left.value.code or 0, said.out, said.err

    return run


def gate(call, old, new, *more):
    return call("gate", "--baseline", old, "--candidate", new, "--out", "out", *more)


def written(folder):
    return json.loads((Path(folder) / "gate.json").read_text())


def accepted(call, run="right", *more):
    return call("baseline", "accept", run, "--reason", "it is right", *more)


@pytest.mark.usefixtures("folder")
def test_this_environment_against_itself_is_unchanged_live_and_recorded(call):
    once = gate(call, "current", "current", "--prompts", "0", *ONE_CELL)
    twice = call("gate", "--baseline", "out/baseline", "--out", "twice", "--prompts", "0")
    for (code, out, _), result in ((once, "out"), (twice, "twice")):
        assert (code, "not worse: 1 unchanged" in out) == (0, True)
        (cell,) = written(result)["cells"]
        assert (cell["cell_id"], cell["verdict"], cell["worse"]) == (SDPA, "unchanged", False)
    assert set(read_cells(Path("out/candidate")).verdict) == {"pass"}


@pytest.mark.usefixtures("here")
def test_a_recorded_fault_is_told_with_cell_site_and_side(call):
    code, out, _ = gate(call, "reports/runs/right", "reports/runs/wrong")
    assert code == 1
    for words in (SDPA, SITE, "port_moved", "meaning", "worse: 1 port_moved", "out/gate.json"):
        assert words in out
    (cell,) = written("out")["cells"]
    assert (cell["verdict"], cell["first_site"], cell["attribution"]) == (
        "port_moved",
        SITE,
        "port",
    )
    assert {file.name for file in Path("out").iterdir()} == {"gate.json", "gate.md", "gate.xml"}


@pytest.mark.usefixtures("here")
def test_a_fault_that_is_gone_is_fixed(call):
    code, out, _ = gate(call, "reports/runs/wrong", "reports/runs/right")
    assert (code, "not worse: 1 fixed" in out) == (0, True)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("reports/runs/none", "is no run and no baseline: it has neither run.json nor"),
        (".", "is no run and no baseline"),
        ("transformers=5", "transformers=5"),
        ("transformers; echo", "transformers; echo"),
    ],
)
def test_a_spec_that_is_neither_folder_nor_requirement_is_refused(spec, sentence, call):
    code, _, said = gate(call, spec, "current", *ONE_CELL)
    assert (code, sentence in said, "Traceback" in said) == (2, True, False)
    assert not Path("out").exists()


@pytest.mark.usefixtures("folder")
def test_without_a_baseline_the_default_is_refused_by_its_name(call):
    code, _, said = call("gate", *ONE_CELL)
    assert (code, "reports/baselines/default is no run and no baseline" in said) == (2, True)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "selection", [("--family", "gpt2", "--variant", "gqa"), ("--mode", "bridge", "--device", "mps")]
)
def test_a_selection_of_nothing_is_not_green(selection, call):
    code, _, said = gate(call, "reports/runs/right", "reports/runs/right", *selection)
    assert (code, "have no cell that is asked for" in said) == (2, True)


@pytest.mark.usefixtures("here")
def test_an_unknown_name_is_refused_with_the_nearest(call):
    code, _, said = gate(call, "reports/runs/right", "current", "--family", "lama")
    assert (code, "did you mean 'llama'?" in said) == (2, True)


@pytest.mark.usefixtures("here")
def test_a_run_that_is_recorded_already_is_not_measured(call):
    code, _, said = call("measure", "reports/runs/right")
    assert (code, "is recorded already" in said) == (2, True)


@pytest.mark.usefixtures("here")
def test_a_run_is_not_measured_into_another_one(call):
    code, _, said = call("measure", "current", *ONE_CELL, "--out", "reports/runs/right")
    assert (code, "is there already" in said) == (2, True)


@pytest.mark.usefixtures("folder")
def test_what_is_measured_is_a_run_that_is_shown_and_gated(call, runs):
    code, out, _ = call("measure", "current", *ONE_CELL, "--prompts", "0", "--out", "mine")
    assert (code, "1 cells: 1 pass;" in out) == (0, True)
    code, out, _ = gate(call, runs / "right", "mine")
    assert (code, "1 unchanged" in out) == (0, True)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("run", ["right", "reports/runs/right", "latest"])
def test_a_run_is_accepted_by_name_or_folder_and_its_size_is_told(run, call):
    code, out, _ = accepted(call, run)
    assert (code, " cells of " in out, " MB" in out, "git add" in out) == (0, True, True, True)
    assert cli_gate.DEFAULT_BASELINE.is_dir()


@pytest.mark.usefixtures("here")
def test_a_baseline_has_a_name_and_is_gated_against_by_it(call):
    assert accepted(call, "right", "--name", "mine")[0] == 0
    assert gate(call, "reports/baselines/mine", "reports/runs/right")[0] == 0
    assert gate(call, "reports/baselines/mine", "reports/runs/wrong")[0] == 1


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("reason", [(), ("--reason", "")])
def test_nothing_is_accepted_without_a_reason(reason, call):
    code, _, said = call("baseline", "accept", "right", *reason)
    assert (code, "reason" in said) == (2, True)
    assert not cli_gate.BASELINES.exists()


@pytest.mark.usefixtures("here")
def test_a_run_that_there_is_not_is_not_accepted(call):
    code, _, said = accepted(call, "another")
    assert (code, "is not a run" in said) == (2, True)


@pytest.mark.usefixtures("here")
def test_a_damaged_baseline_is_refused_with_its_file_and_what_to_do(call):
    accepted(call)
    file = cli_gate.DEFAULT_BASELINE / "fingerprints.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    code, _, said = gate(call, "reports/baselines/default", "reports/runs/right")
    assert (code, f"{file} is not the one that was accepted" in said) == (2, True)
    assert "harness baseline accept RUN" in said


@pytest.fixture
def cases(here, call):
    """Give a file of cases in a folder whose accepted baseline is the right run."""
    accepted(call)
    (here / "cases").mkdir()
    (here / "cases" / "test_ports_agree.py").write_text(CASES)
    return here / "cases"


RUN = ("run", "--prompts", "0", "--mode", "hf_sdpa", "--dtype", "exact")


@pytest.mark.usefixtures("cases")
def test_a_run_is_gated_against_the_accepted_baseline_and_is_green(call):
    code, out, _ = call(*RUN)
    assert (code, "not worse: 1 unchanged" in out) == (0, True)
    assert written("reports/runs/latest")["overall"] == "not worse"


@pytest.mark.usefixtures("cases")
def test_a_run_whose_relations_were_forced_is_not_gated_though_there_is_a_baseline(call):
    code, out, _ = call(*RUN, "--relation", "equal")
    assert (code, "not worse" in out) == (0, False)
    assert out.splitlines()[-1].startswith("not gated: every comparison was forced to be equal")
    assert not Path("reports/runs/latest/gate.json").exists()
    code, _, said = gate(call, "reports/baselines/default", "reports/runs/latest")
    assert (code, "its relations were forced" in said) == (2, True)


@pytest.mark.usefixtures("cases")
def test_a_profile_has_a_baseline_of_its_own_and_without_one_it_is_said(call):
    assert cli_gate.accepted_baseline(None, ("breadth",)) is None
    said = cli_gate.no_baseline(("breadth",))
    assert "harness baseline accept latest --name breadth" in said
    accepted(call, "right", "--name", "breadth")
    assert cli_gate.accepted_baseline(None, ("breadth",)) == Path("reports/baselines/breadth")
    assert cli_gate.accepted_baseline(None) == cli_gate.DEFAULT_BASELINE


def test_a_weight_moved_in_a_port_is_red_with_cell_site_and_side(cases, call):
    (cases / "conftest.py").write_text(FAULT)
    code, out, _ = call(*RUN)
    assert (code, "worse: 1 port_moved" in out) == (1, True)
    (cell,) = written("reports/runs/latest")["cells"]
    assert (cell["cell_id"], cell["first_site"], cell["attribution"]) == (SDPA, SITE, "port")
    assert cell["prompt"]["origin"] == "shrunk"


@pytest.fixture
def two_accepted(here, call):
    """Accept a run that has one cell more than the right one."""
    more = here / "reports" / "runs" / "more"
    record(more)
    write_result(more, measured(LLAMA, run_id="more"))
    accepted(call, "more")
    return cli_gate.DEFAULT_BASELINE


@pytest.mark.parametrize(("whole", "verdict", "code"), [(True, "vanished", 1), (False, "", 0)])
def test_a_cell_of_the_baseline_is_missed_where_every_cell_was_asked_for(
    whole, verdict, code, two_accepted
):
    right = Path("reports/runs/right")
    assert cli_gate.gate_run(two_accepted, right, Selection(), whole=whole) == code
    verdicts = {cell["cell_id"]: cell["verdict"] for cell in written(right)["cells"]}
    assert verdicts.get("llama-default.hf_sdpa.exact", "") == verdict


def test_a_cell_that_was_not_asked_for_is_not_missed(two_accepted):
    right, asked = Path("reports/runs/right"), Selection(family=("gpt2",))
    assert cli_gate.gate_run(two_accepted, right, asked, whole=True) == 0


@pytest.mark.usefixtures("cases", "two_accepted")
@pytest.mark.parametrize(("keyword", "code"), [("", 1), ("gpt2", 0)])
def test_a_run_that_is_finished_later_misses_what_it_would_have_missed_at_once(keyword, code, call):
    run = Path("reports/runs/begun")
    asked = {"mode": ["hf_sdpa"], "dtype": ["exact"], "probe": ["none"]}
    plan = {"drawn": 0, "seed": 0, "shrink_seconds": 0.0}
    open_run(run, selection=asked, plan=plan, asked={"keyword": keyword} if keyword else {})
    found, _, _ = call("run", "--resume", run)
    verdicts = {cell["cell_id"]: cell["verdict"] for cell in written(run)["cells"]}
    assert found == code
    assert verdicts.get("llama-default.hf_sdpa.exact") == ("vanished" if code else None)


@pytest.mark.usefixtures("cases")
def test_what_a_run_was_asked_for_by_a_word_is_kept(call):
    call(*RUN, "-k", "gpt2")
    asked = json.loads(Path("reports/runs/latest/run.json").read_text())["asked"]
    assert asked == {"cells": 1, "keyword": "gpt2"}
    code, _, said = accepted(call, "latest")
    assert (code, "was asked by -k gpt2" in said) == (2, True)


def test_a_run_that_is_not_finished_is_not_accepted(cases, call):
    named = CASES.replace("cell, check_cell", "cell").replace("check_cell(cell)", "assert cell.id")
    (cases / "test_names.py").write_text(named.replace('"gpt2"', '"llama"'))  # asks for nothing
    call(*RUN)
    file = Path("reports/runs/latest/run.json")
    described = read_run(file.parent)
    assert described["asked"] == {"cells": 1}
    write_sealed(file, {**described, "asked": {"cells": 2}})
    code, _, said = accepted(call, "latest")
    assert (code, "has 1 of the 2 cells that it was asked for" in said) == (2, True)


@pytest.mark.usefixtures("cases")
def test_a_run_is_not_finished_with_other_releases_than_it_was_begun_with(call):
    call(*RUN)
    file = Path("reports/runs/latest/run.json")
    described = read_run(file.parent)
    packages = {**described["packages"], "transformers": "4.0.0"}
    write_sealed(file, {**described, "packages": packages})
    code, out, said = call("run", "--resume", "latest")
    assert (code, "was begun with other releases: transformers 4.0.0 → " in out + said) == (2, True)


@pytest.mark.usefixtures("cases")
def test_a_baseline_that_is_none_ends_a_run_before_it_begins(call):
    code, _, said = call(*RUN, "--baseline", "reports/runs/right")
    assert (code, "is no baseline: it has no baseline.json" in said) == (2, True)


def test_a_folder_without_environments_lists_none(folder, monkeypatch, call):
    monkeypatch.setenv("HARNESS_CACHE", str(folder / "cache"))
    assert call("env", "list")[0] == 0
    code, _, said = call("env", "remove", "abc")
    assert (code, "abc" in said) == (2, True)


def test_how_right_a_sketch_is_is_printed_beside_what_is_stated(call):
    code, out, _ = call("sketch-accuracy", "--family", "gpt2", "--elements", "1")
    rows = [line for line in out.splitlines() if "gpt2" in line]
    assert (code, len(rows)) == (0, 3)
    assert all("11.6%" in row for row in rows)


@pytest.mark.usefixtures("here")
def test_two_gates_at_once_into_one_folder_of_reports_are_two_whole_gates():
    command = [sys.executable, "-c", "from harness.cli import main; main()", "gate"]
    right, wrong = "reports/runs/right", "reports/runs/wrong"
    asked = [(right, wrong), (wrong, right), (right, right)]
    gates = [
        subprocess.Popen(
            [*command, f"--baseline={old}", f"--candidate={new}"], stdout=subprocess.DEVNULL
        )
        for old, new in asked
    ]
    codes = [each.wait(60) for each in gates]
    verdicts = sorted(
        cell["verdict"]
        for folder in Path("reports/runs").glob("gate-*")
        for cell in written(folder)["cells"]
    )
    assert (codes, verdicts) == ([1, 0, 0], ["fixed", "port_moved", "unchanged"])
