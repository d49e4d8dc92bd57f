import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from harness import cli
from harness.case import Case, Cell
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run, write_result
from harness.record import PACKED, pack, read_cells, read_deltas

COMMAND = Path(sys.executable).with_name("harness")
CASES = """
import pytest
from harness import Case

@pytest.mark.harness(Case(family="gpt2"), Case(family="llama"))
def test_port_agrees(cell, check_cell):
    check_cell(cell)
"""
LATEST = "reports/runs/latest"
ABSENT = next(device for device in ("mps", "cuda") if not getattr(torch, device).is_available())


def numbers_of(run):
    keys = ["cell_id", "prompt_id", "site"]
    return read_deltas(run).astype(dict.fromkeys(keys, str)).set_index(keys).rel_l2.sort_index()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give an empty folder, and be in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder_of_cases(folder):
    (folder / "cases").mkdir()
    (folder / "cases" / "test_ports_agree.py").write_text(CASES)
    return folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Give a folder in which two cells have been measured."""
    folder = tmp_path_factory.mktemp("measured")
    run = folder / "reports" / "runs" / "a-run"
    open_run(run, selection={}, plan={})
    plan = Plan(drawn=0, shrink_seconds=0.0)
    for family in ("gpt2", "llama"):
        cell = Cell(case=Case(family=family), loading_mode="hf_sdpa", dtype="float32")
        write_result(run, measure_cell(cell, run_id="a-run", references=References(), plan=plan))
    return folder


@pytest.fixture(params=["in parts", "packed"])
def a_run(request, measured, tmp_path, monkeypatch):
    """Be in a folder in which two cells have been measured, and give their run."""
    shutil.copytree(measured, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    run = tmp_path / "here" / "reports" / "runs" / "a-run"
    if request.param == "packed":
        pack(run)
    return run


@pytest.fixture
def call(monkeypatch, capfd):
    """Give a function that calls the command in this process: exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capfd.readouterr()
        return left.value.code or 0, said.out, said.err

    return run


def test_the_installed_command_says_how_it_is_used():
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for name in ("run", "explain", "replay", "show", "logits", "bounds", "pin"):
        assert f" {name} " in done.stdout


def test_asking_for_help_loads_no_model_library():
    code = "import sys, harness.cli; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("option", "name", "nearest"),
    [
        ("--family", "lama", "llama"),
        ("--variant", "gqaa", "gqa"),
        ("--mode", "brigde", "bridge"),
        ("--dtype", "float23", "float32"),
        ("--device", "cudaa", "cuda"),
        ("--relation", "eqaul", "equal"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_others(
    option, name, nearest, folder_of_cases, call
):
    code, _, said = call("run", option, name)
    assert code == 2
    assert f"unknown {option[2:]} {name!r}; did you mean {nearest!r}? known: " in said
    assert not (folder_of_cases / "reports").exists()


def test_a_wrong_name_among_right_ones_is_found(folder_of_cases, call):
    code, _, said = call("run", "--family", "gpt2,lama", "--cases", str(folder_of_cases))
    assert (code, "unknown family 'lama'" in said) == (2, True)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("arguments", [("--nonsense",), ("run", "--nonsense"), ("nonsense",)])
def test_an_unknown_option_or_command_is_refused(arguments, call):
    assert call(*arguments)[0] == 2


@pytest.mark.usefixtures("folder")
def test_a_folder_without_cases_is_refused(call):
    code, _, said = call("run")
    assert code == 2
    assert "no cases here" in said


@pytest.mark.usefixtures("folder_of_cases")
def test_an_empty_selection_is_not_green(call):
    code, _, said = call("run", "--family", "gpt2", "--variant", "gqa")
    assert code == 2
    assert "nothing was measured: the selection is empty" in said


def test_a_worker_that_ends_before_it_begins_is_told_and_not_green(folder_of_cases, call):
    # What pytest-xdist raises then, and where.
    ends = 'def pytest_sessionstart():\n    raise EOFError("expected 1 bytes, got 0")\n'
    (folder_of_cases / "conftest.py").write_text(ends)
    code, _, said = call("run", "--family", "gpt2")
    assert code == 2
    assert "a worker ended before it had begun" in said
    assert "next: run it again" in said


def test_a_file_of_cases_that_breaks_is_not_green(folder_of_cases, call):
    (folder_of_cases / "cases" / "test_broken.py").write_text("import nothing_of_that_name")
    code, out, _ = call("run", "--family", "gpt2")
    assert code == 2
    assert "nothing_of_that_name" in out


@pytest.mark.usefixtures("folder_of_cases")
def test_a_device_that_is_not_there_leaves_cells_unmeasured_and_is_said_and_not_green(
    call, monkeypatch
):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-ra")
    arguments = ("--device", ABSENT, "--family", "gpt2", "--mode", "hf_sdpa", "--dtype", "float32")
    code, out, said = call("run", *arguments)
    assert code == 2
    assert "1 cells: 1 unavailable; 0 sites compared" in out
    assert f"NOT MEASURED, 1 cells: this machine has no {ABSENT} device" in out
    assert " pass" not in out.partition("1 cells:")[2]
    assert "SKIPPED" not in out
    assert "nothing was measured" in said


@pytest.mark.usefixtures("folder_of_cases")
def test_two_workers_give_what_one_process_gives_and_green_is_zero(call, measured):
    arguments = ("--mode", "hf_sdpa", "--dtype", "float32", "--prompts", "0", "--jobs", "2")
    code, out, _ = call("run", *arguments)
    assert code == 0
    assert "2 cells: 2 pass;" in out
    one, two = (numbers_of(path / LATEST) for path in (measured, Path.cwd()))
    pd.testing.assert_series_equal(one, two)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "some-run", "gpt2-default.hf_sdpa.exact"),
        ("explain", "some-run", "gpt2-default.hf_sdpa.exact"),
        ("show", "some-run"),
        ("show",),
        ("logits", "some-run"),
        ("bounds", "some-run"),
    ],
)
def test_a_run_that_there_is_not_is_refused(arguments, call):
    code, _, said = call(*arguments)
    assert code == 2
    assert "is not a run; below reports/runs: none yet" in said


@pytest.mark.usefixtures("a_run")
def test_a_run_that_there_is_not_is_refused_with_those_that_there_are(call):
    code, _, said = call("show", "another")
    assert (code, "below reports/runs: a-run, latest" in said) == (2, True)


@pytest.mark.usefixtures("folder_of_cases")
def test_resuming_a_run_that_there_is_not_is_refused(call):
    code, _, said = call("run", "--resume", "some-run")
    assert (code, "some-run is not a run" in said) == (2, True)


@pytest.mark.usefixtures("a_run")
def test_a_cell_that_the_run_does_not_have_is_refused_with_some_that_it_has(call):
    code, _, said = call("replay", "a-run", "gpt2-default.bridge.exact")
    assert code == 2
    assert "has no cell 'gpt2-default.bridge.exact'" in said
    assert "gpt2-default.hf_sdpa.float32" in said


@pytest.mark.usefixtures("a_run")
@pytest.mark.parametrize("name", ["a-run", "latest", "reports/runs/a-run"])
def test_a_run_is_found_by_its_name_or_path_and_as_the_latest(name, call):
    code, out, _ = call("show", name)
    assert (code, "2 cells: 2 pass;" in out) == (0, True)


@pytest.mark.usefixtures("a_run")
def test_a_cell_is_shown_over_its_layers(call):
    code, out, _ = call("show", "a-run", "gpt2-default.hf_sdpa.float32")
    assert code == 0
    assert "resid_post" in out
    assert "pass: every site is as it should be" in out


@pytest.mark.usefixtures("a_run")
def test_a_cell_that_is_not_there_is_not_shown(call):
    code, _, said = call("show", "a-run", "gpt2-default.hf_sdpa.float16")
    assert (code, "has no cell 'gpt2-default.hf_sdpa.float16'; did you mean" in said) == (2, True)


@pytest.mark.usefixtures("a_run")
def test_a_cell_that_is_measured_again_and_gives_the_same_is_green(call):
    code, out, _ = call("replay", "a-run", "gpt2-default.hf_sdpa.float32")
    assert code == 0
    same = r"stored: (\d+) rows, 0 failing; again: \1 rows, 0 failing"
    assert re.search(same, " ".join(out.split()))


def test_what_is_no_run_is_not_packed(folder, call):
    code, _, said = call("pack", str(folder))
    assert (code, "is not a run" in said) == (2, True)


@pytest.mark.usefixtures("a_run")
def test_logits_are_shown_for_what_is_asked_for(call):
    code, out, _ = call("logits", "--family", "gpt2")
    assert (code, "gpt2-default" in out) == (0, True)
    code, _, said = call("logits", "--family", "bloom")
    assert (code, "nothing in the run fits this selection" in said) == (2, True)


@pytest.mark.usefixtures("a_run")
def test_bounds_are_shown_beside_what_was_measured(call):
    code, out, _ = call("bounds")
    assert (code, "float32" in out) == (0, True)


def test_a_run_is_packed_by_its_name(a_run, call):
    before = read_cells(a_run).cell_id.tolist()
    code, out, _ = call("pack", "a-run")
    assert (code, "parts packed" in out) == (0, True)
    assert {file.name for file in a_run.glob("*/*.parquet")} == {PACKED}
    assert read_cells(a_run).cell_id.tolist() == before
    code, out, _ = call("pack")
    assert (code, out.startswith("0 parts packed")) == (0, True)
