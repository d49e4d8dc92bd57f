import json
import sys
from pathlib import Path

import pytest

from harness.case import Case, Cell
from harness.errors import EnvironmentUnavailable, RequirementError
from harness.measure.question import ask
from harness.models.architectures import architectures
from harness.models.checkpoints import checkpoint_of
from harness.record import read_cells
from harness.versions import measuring
from harness.versions.measuring import (
    CURRENT,
    current_environment,
    import_failures,
    measure_in,
    subject_of,
)
from harness.versions.running import Finished

CELL = Cell(case=Case(family="gpt2"), loading_mode="hf_sdpa", dtype="exact")
FAILURES = {"transformer-lens": "ImportError: no"}


def heard_nothing(word):
    raise AssertionError(word)


def subject(spec=CURRENT, **more):
    return subject_of(spec, progress=more.pop("progress", heard_nothing), **more)


@pytest.fixture
def runs(monkeypatch):
    """Run nothing; give the list of what was to be run, and let one say how it ends."""
    asked = []
    ending = {"returncode": 0, "stdout": "{}", "stderr": "", "seconds": 0.0}

    def run_in(environment, script, arguments, **_):
        asked.append((environment.key, script.name, *arguments[:2]))
        return Finished(**ending)

    monkeypatch.setattr(measuring, "run_in", run_in)
    return asked, ending


def test_the_current_environment_is_the_one_that_this_process_runs_in():
    here = current_environment()
    assert (here.path, here.python) == (Path(sys.prefix), Path(sys.executable))
    assert (here.key, here.versions["pytest"]) == (CURRENT, pytest.__version__)


def test_a_subject_says_the_versions_that_matter():
    versions = subject().versions
    assert versions.keys() == {"torch", "transformers", "transformer-lens"}
    assert str(subject()) == ", ".join(f"{name} {version}" for name, version in versions.items())


@pytest.mark.parametrize("spec", ["current", " current "])
def test_current_needs_no_index_and_builds_nothing(spec):
    assert subject(spec).environment.key == CURRENT


def test_requirements_come_to_an_environment_of_their_own(index):
    index.add("port", "1.0")
    index.add("port", "2.0")
    said = []
    found = subject("port==1.0", progress=said.append)
    assert (found.spec, found.environment.versions["port"]) == ("port==1.0", "1.0")
    assert found.environment.key != CURRENT
    assert said != []


def test_what_holds_on_every_side_yields_to_what_a_spec_names(index):
    for version in ("1.0", "2.0"):
        index.add("port", version)
        index.add("other", version)
    found = subject("port==1.0", given="port==2.0 other==1.0", progress=str)
    kept = found.environment.versions
    assert (kept["port"], kept["other"]) == ("1.0", "1.0")


def test_the_second_side_keeps_what_it_does_not_name_as_the_first_one_has_it(index):
    for version in ("1.0", "2.0"):
        index.add("port", version, "base")
        index.add("base", version)
    first = subject("port==1.0 base==1.0", progress=str)
    kept, alone = (subject("port==2.0", prefer=side, progress=str) for side in (first, None))
    assert kept.environment.versions["port"] == alone.environment.versions["port"] == "2.0"
    assert kept.environment.versions["base"] == "1.0"
    assert alone.environment.versions["base"] == "2.0"


@pytest.mark.parametrize("spec", ["no-such-package==1.0", "port==9.9", "port=1"])
def test_a_release_that_there_is_not_is_refused(spec, index):
    index.add("port", "1.0")
    with pytest.raises(RequirementError):
        subject(spec, progress=str)


def test_what_does_not_import_is_asked_of_the_worker(runs):
    asked, ending = runs
    ending["stdout"] = f"a library greets\n{json.dumps(FAILURES)}"
    assert import_failures(subject()) == FAILURES
    assert asked[0][:4] == (CURRENT, "bootstrap.py", "harness.measure.worker", "imports")


def test_what_does_not_import_is_asked_once_of_an_environment_and_each_time_of_this_one(
    runs, index
):
    asked, ending = runs
    index.add("port", "1.0")
    built = subject("port", progress=str)
    ending["stdout"] = json.dumps(FAILURES)
    assert [import_failures(built) for _ in range(2)] == [FAILURES, FAILURES]
    assert len(asked) == 1
    assert [import_failures(subject()) for _ in range(2)] == [FAILURES, FAILURES]
    assert len(asked) == 3


@pytest.mark.parametrize("text", ["", "[]", "{", '{"seal": "x"}'])
def test_what_is_kept_of_imports_and_is_damaged_is_asked_again(text, runs, index):
    asked, ending = runs
    index.add("port", "1.0")
    built = subject("port", progress=str)
    ending["stdout"] = json.dumps(FAILURES)
    assert import_failures(built) == FAILURES
    (built.environment.path / "imports.json").write_text(text)
    assert [import_failures(built) for _ in range(2)] == [FAILURES, FAILURES]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("stderr", "told"), [("one\nlast words", "last words"), ("", "it said nothing")]
)
def test_a_worker_that_ends_early_is_told_with_its_last_words(stderr, told, runs, tmp_path):
    runs[1].update(returncode=3, stderr=stderr)
    with pytest.raises(EnvironmentUnavailable, match=r"ended with code 3 (.|\n)*next:") as raised:
        measure_in(subject(), tmp_path / "q.json", tmp_path / "run", progress=int)
    assert told in str(raised.value)
    with pytest.raises(EnvironmentUnavailable, match="ended with code 3"):
        import_failures(subject())


def test_what_a_worker_said_is_kept_beside_its_rows(runs, tmp_path):
    runs[1].update(stdout="out\n", stderr="err\n")
    measure_in(subject(), tmp_path / "q.json", tmp_path / "run", progress=int)
    assert (tmp_path / "run" / "worker.log").read_text() == "out\nerr\n"


def test_a_worker_is_told_which_versions_are_meant(runs, tmp_path):
    measure_in(subject(), tmp_path / "q.json", tmp_path / "run", progress=int)
    assert json.loads((tmp_path / "run" / "expected.json").read_text()) == subject().versions
    assert runs[0][0][3] == "measure"


def test_a_question_is_measured_in_a_process_of_its_own(tmp_path):
    ask([CELL], drawn=0, seed=0).write(tmp_path / "question.json")
    done = []
    measure_in(subject(), tmp_path / "question.json", tmp_path / "run", progress=done.append)
    assert (done[-1], read_cells(tmp_path / "run").verdict.tolist()) == (1, ["pass"])


def test_here_everything_imports():
    assert import_failures(subject()) == {}


def test_architectures_that_are_not_known_are_shrunk_by_the_worker():
    every = [(each.model_type, each.variant) for each in architectures()]
    unknown = {("arcee", "default"), ("blt", "default")}
    found = measuring.shrunk_in(subject(), [each for each in every if each not in unknown])
    assert found.keys() == unknown
    made = checkpoint_of(Case(family="arcee", checkpoint="shrunk"))
    assert found["arcee", "default"] == {"path": str(made.path.resolve()), "digest": made.digest}
    assert "no small config" in found["blt", "default"]["reason"]
