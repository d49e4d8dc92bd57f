import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.case import Case, Cell, Prompt
from harness.errors import HarnessError
from harness.measure import worker
from harness.measure.question import ask_again
from harness.record import finished_cells, read_cells, read_fingerprints, read_run
from harness.versions import bootstrap

PROMPTS = (Prompt.unpadded(((5, 6, 7),), origin="a test"),)
HERE = {name: importlib.metadata.version(name) for name in worker.MODULES}
BOOTSTRAP = Path(bootstrap.__file__)
SDPA, BRIDGE = (
    Cell(case=Case(family="gpt2"), loading_mode=mode, dtype="exact")
    for mode in ("hf_sdpa", "bridge")
)
SHOWN = """
import json, sys, harness
print(json.dumps({"path": sys.path, "harness": harness.__file__, "arguments": sys.argv}))
"""


@pytest.fixture
def written(tmp_path):
    """Give a function that writes what a worker is told, and gives its arguments."""

    def write(task="measure", *, expected=None, cells=(SDPA,)):
        (tmp_path / "expected.json").write_text(json.dumps(HERE if expected is None else expected))
        ask_again(cells, {"gpt2-default": PROMPTS}).write(tmp_path / "question.json")
        more = (
            [str(tmp_path / "question.json"), str(tmp_path / "a-run")] if task == "measure" else []
        )
        return [task, str(tmp_path / "expected.json"), *more]

    return write


@pytest.fixture
def run(tmp_path):
    return tmp_path / "a-run"


@pytest.fixture
def broken_import(monkeypatch):
    """Make transformer_lens raise when it is imported, as some releases do beside others."""
    really = worker.importlib.import_module

    def import_module(name, package=None):
        if name == "transformer_lens":
            raise ImportError("first line\ncannot import name 'Nothing'")
        return really(name, package)

    monkeypatch.setattr(worker.importlib, "import_module", import_module)


def as_a_process(*arguments):
    command = [sys.executable, "-I", str(BOOTSTRAP), "harness.measure.worker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def verdicts_in(run):
    cells = read_cells(run)
    return dict(zip(cells.cell_id, cells.verdict, strict=True))


def test_what_is_asked_for_and_here_is_right():
    assert worker.what_is_wrong(HERE) == ""
    assert worker.import_failures(HERE) == {}


@pytest.mark.parametrize("package", list(HERE))
def test_another_version_is_said_and_nothing_is_measured(package, written, run, capsys):
    wrong = {**HERE, package: "0.0.1"}
    assert worker.main(written(expected=wrong)) == worker.WRONG
    said = capsys.readouterr().err
    assert f"{package} 0.0.1 was asked for, {HERE[package]} is in {sys.prefix}" in said
    assert not run.exists()


def test_a_package_that_is_not_here_is_said(written, capsys):
    assert worker.main(written(expected={"no-such-package": "1.0"})) == worker.WRONG
    assert "no-such-package 1.0 was asked for, and is not in" in capsys.readouterr().err


def test_a_package_that_lies_outside_of_the_environment_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert "and comes from" in worker.what_is_wrong({"torch": HERE["torch"]})


def test_a_module_that_is_imported_from_outside_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    failures = worker.import_failures({"torch": HERE["torch"]})
    assert failures["torch"].startswith(f"it is imported from {torch.__file__}, outside")


def test_a_package_that_nobody_imports_is_not_tried():
    assert worker.import_failures({"numpy": "1.0"}) == {}


@pytest.mark.usefixtures("broken_import")
def test_what_a_package_says_that_does_not_import_is_told_by_its_last_line(written, capsys):
    assert worker.main(written("imports")) == 0
    said = {"transformer-lens": "ImportError: cannot import name 'Nothing'"}
    assert json.loads(capsys.readouterr().out) == said


def test_where_everything_imports_there_is_nothing_to_tell(written, capsys):
    assert worker.main(written("imports")) == 0
    assert json.loads(capsys.readouterr().out) == {}


def test_every_cell_of_the_question_is_measured_on_its_prompts_and_written(written, run):
    assert worker.main(written()) == 0
    assert verdicts_in(run) == {SDPA.id: "pass"}
    assert set(read_fingerprints(run).side) == {"port", "reference"}
    assert read_run(run)["plan"] == {"question": "question.json"}
    assert read_cells(run).n_prompts.tolist() == [1]


@pytest.mark.usefixtures("broken_import")
def test_a_port_that_does_not_import_becomes_an_error_with_its_words(written, run):
    assert worker.main(written(cells=(BRIDGE, SDPA))) == 0
    assert verdicts_in(run) == {BRIDGE.id: "error", SDPA.id: "pass"}
    (reason,) = read_cells(run).set_index("cell_id").reason.loc[[BRIDGE.id]]
    assert "transformer_lens does not import: ImportError: cannot import name 'Nothing'" in reason


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_torch_or_transformers_nothing_is_measured(package, written, run):
    _, _, question, _ = written()
    with pytest.raises(HarnessError, match=f"{package} does not import: it said so"):
        worker.measure(Path(question), run, failures={package: "it said so"})
    assert not run.exists()


def test_a_worker_goes_on_after_the_cells_that_are_finished(written, run):
    worker.main(written())
    before = (run / "cells" / f"{SDPA.id}.parquet").stat().st_mtime_ns
    worker.main(written(cells=(SDPA, BRIDGE)))
    assert finished_cells(run) == {SDPA.id, BRIDGE.id}
    assert (run / "cells" / f"{SDPA.id}.parquet").stat().st_mtime_ns == before


def test_a_worker_is_a_process_of_its_own_that_gives_the_same_digests(written, run):
    done = as_a_process(*written())
    assert (done.returncode, verdicts_in(run)) == (0, {SDPA.id: "pass"}), done.stderr
    there = read_fingerprints(run).digest.tolist()
    for part in run.rglob("*.parquet"):
        part.unlink()
    worker.main(written())
    assert read_fingerprints(run).digest.tolist() == there


def test_a_process_that_was_asked_for_another_version_ends_with_code_three(written):
    done = as_a_process(*written(expected={"torch": "0.0.1"}))
    assert done.returncode == worker.WRONG == 3
    assert "torch 0.0.1 was asked for" in done.stderr


@pytest.fixture
def elsewhere(tmp_path):
    """Give a bootstrap in a package of its own, with a stray module beside the package."""
    package = tmp_path / "surroundings" / "harness"
    (package / "versions").mkdir(parents=True)
    (package / "versions" / "bootstrap.py").write_text(BOOTSTRAP.read_text())
    (package / "__init__.py").touch()
    (package / "shown.py").write_text(SHOWN)
    (package.parent / "stray.py").touch()
    return package


def started(package, module):
    command = [sys.executable, "-I", str(package / "versions" / "bootstrap.py"), module, "a", "b"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=package.parent)


def test_the_bootstrap_brings_in_the_package_and_nothing_of_what_it_lies_in(elsewhere):
    said = json.loads(started(elsewhere, "harness.shown").stdout)
    assert said["harness"] == str(elsewhere / "__init__.py")
    assert said["arguments"][1:] == ["a", "b"]
    assert not [path for path in said["path"] if path.startswith(str(elsewhere.parent))]


def test_what_lies_beside_the_package_cannot_be_imported(elsewhere):
    (elsewhere / "shown.py").write_text("import stray")
    assert "No module named 'stray'" in started(elsewhere, "harness.shown").stderr


def test_a_question_that_is_none_is_refused_in_words_and_not_by_a_traceback(tmp_path, capsys):
    expected, question = tmp_path / "expected.json", tmp_path / "question.json"
    expected.write_text("{}")
    question.write_text("{")
    arguments = ["measure", str(expected), str(question), str(tmp_path / "run")]
    assert worker.main(arguments) == worker.REFUSED
    assert capsys.readouterr().err.startswith(f"{question} is no question")
