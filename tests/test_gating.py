import dataclasses
import shutil
import threading
from pathlib import Path

import pytest

from harness import gating
from harness.case import Case, Cell
from harness.errors import EnvironmentUnavailable, RequirementError, SelectionError, UsageError
from harness.gating import Plan, Watcher, modes_for, question_for, run_gate, source_of
from harness.judge.baseline import accept
from harness.judge.sides import read_side
from harness.measure import worker
from harness.measure.question import ask
from harness.models.checkpoints import checkpoint_of
from harness.models.families import FAMILIES
from harness.record import read_cells
from harness.selection import Selection
from harness.versions.measuring import CURRENT, Subject, current_environment

SDPA = "gpt2-default.hf_sdpa.exact"
ONE_CELL = Selection(
    family=("gpt2",), variant=("default",), mode=("hf_sdpa",), dtype=("exact",), probe=("none",)
)
BOTH_MODES = dataclasses.replace(ONE_CELL, mode=("hf_sdpa", "bridge"))
BROKEN = {"transformer-lens": "ImportError: cannot import name 'Nothing'"}
_IN_TURN = threading.Lock()


class Heard:
    """A watcher that keeps what it hears."""

    def __init__(self):
        self.said, self.counted = [], []
        self.watcher = Watcher(
            say=self.said.append, measured=lambda *told: self.counted.append(told)
        )


def subject(spec=CURRENT, **versions):
    """Give a subject whose environment claims versions; it is this one in all else."""
    lock = "".join(f"{name.replace('_', '-')}=={version}\n" for name, version in versions.items())
    here = current_environment()
    return Subject(spec=spec, environment=dataclasses.replace(here, lock=lock) if lock else here)


def source(spec):
    return source_of(spec, prefer=None, given="", python=None, watcher=Heard().watcher)


def asked(selection, *sources, broken=()):
    question = question_for(selection, sources, drawn=0, seed=0, broken=broken)
    return [cell.id for cell in question.cells]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """Give the folder of a run of one cell, recorded by a worker."""
    folder = tmp_path_factory.mktemp("recorded")
    cell = Cell(case=Case(family="gpt2"), loading_mode="hf_sdpa", dtype="exact")
    ask([cell], drawn=0, seed=0).write(folder / "question.json")
    worker.measure(folder / "question.json", folder / "a-run", failures={})
    return folder / "a-run"


@pytest.fixture
def in_this_process(monkeypatch):
    """Measure here and not in workers; give a dict of what does not import, by spec."""
    failing = {}

    def measure_in(of, question, run, *, progress):
        with _IN_TURN:  # exact mode is of a thread, hooks are not
            worker.measure(question, run, failures=failing.get(of.spec, {}))
        progress(len(read_cells(run)))

    monkeypatch.setattr(gating, "measure_in", measure_in)
    monkeypatch.setattr(gating, "import_failures", lambda of: failing.get(of.spec, {}))
    return failing


def gated(old, new, out, selection=ONE_CELL, heard=None):
    watcher = (heard or Heard()).watcher
    return run_gate((old, new), selection, Plan(out=out, drawn=0), watcher)


def test_a_spec_is_a_run_a_baseline_or_an_environment(recorded, tmp_path):
    accept(recorded, tmp_path / "default", reason="a test")
    assert source(str(recorded)) == recorded
    assert source(str(tmp_path / "default")) == tmp_path / "default"
    assert source("current").environment.path == current_environment().path


@pytest.mark.parametrize("name", [".", "here", "nowhere/at-all"])
def test_a_folder_that_is_neither_run_nor_baseline_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(UsageError, match=r"is no run and no baseline: .*\n.*next:"):
        source(name)


@pytest.mark.parametrize("spec", ["", "transformers=5", "transformers; rm", "--index-url x", "@ y"])
def test_what_is_no_requirement_is_refused(spec):
    with pytest.raises((RequirementError, UsageError)):
        source(spec)


@pytest.mark.parametrize(
    ("versions", "ports"),
    [
        ({"transformer_lens": "2.9.0"}, {"hooked", "transformers"}),
        ({"transformer_lens": "3.9.0"}, {"hooked", "bridge", "transformers"}),
        ({"transformer_lens": "4.3.0"}, {"bridge", "transformers"}),
        ({"transformers": "5.9.0"}, {"transformers"}),
    ],
)
def test_the_modes_of_a_side_are_those_that_its_port_has(versions, ports):
    found = modes_for([subject(**versions)])
    assert {gating.LOADING_MODES[name].port for name in found} == ports


def test_the_modes_of_a_gate_are_those_that_either_side_has():
    old, new = subject(transformer_lens="2.9.0"), subject(transformer_lens="4.3.0")
    assert set(modes_for([old, new])) == {*modes_for([old]), *modes_for([new])}


def test_a_gate_asks_probes_of_the_modes_that_the_versions_have():
    gpt2 = Selection(family=("gpt2",), variant=("default",), probe=("causality",))
    alone = asked(gpt2, subject(transformers="5.9.0"))
    assert alone == [
        f"gpt2-default.{mode}.{dtype}.causality"
        for mode in ("hf_eager", "hf_sdpa")
        for dtype in ("exact", "float32")
    ]
    old = asked(gpt2, subject(transformer_lens="2.9.0"))
    assert "gpt2-default.hooked_no_processing.exact.causality" in old
    assert not any("bridge" in name for name in old)
    both = asked(Selection(family=("gpt2",), variant=("default",)), subject(transformers="5.9.0"))
    assert {name.count(".") for name in both} == {2, 3}


def test_a_gate_asks_every_variant_of_a_family_unless_told():
    cases = gating.cases_for(Selection(family=("llama",)))
    assert {case.variant for case in cases} == set(FAMILIES["llama"].variant_names)
    (case,) = gating.cases_for(Selection(family=("llama",), variant=("gqa",)))
    assert (case.id, case.checkpoint) == ("llama-gqa", "synthetic")


def test_a_selection_without_a_cell_is_refused(recorded):
    nothing = Selection(family=("gpt2",), variant=("gqa",))
    for sides in ((subject(), subject()), (recorded, subject())):
        with pytest.raises(SelectionError, match="selects no cell"):
            asked(nothing, *sides)


def test_a_recorded_side_is_asked_again_what_it_was_asked(recorded):
    question = question_for(Selection(), (recorded, subject()), drawn=3, seed=1)
    assert [cell.id for cell in question.cells] == [SDPA]
    stored = [row["prompt_id"] for row in read_side(recorded).prompts["gpt2-default"]]
    assert [prompt.prompt_id for prompt in question.prompts["gpt2-default"]] == stored


def test_where_the_port_does_not_import_each_of_its_modes_is_asked_once():
    wide = Selection(family=("gpt2", "llama"), mode=("hf_sdpa", "bridge", "bridge_compat"))
    wide = dataclasses.replace(wide, variant=("default",), dtype=("exact",), probe=("none",))
    found = asked(wide, subject(), broken={"transformer-lens"})
    of_the_port = ["gpt2-default.bridge.exact", "gpt2-default.bridge_compat.exact"]
    assert sorted(found) == [*of_the_port, SDPA, "llama-default.hf_sdpa.exact"]
    assert len(asked(BOTH_MODES, subject(), broken={"torch"})) == 2


def test_where_no_port_is_asked_for_it_need_not_import():
    assert asked(ONE_CELL, subject(), broken={"transformer-lens"}) == [SDPA]


def test_two_recorded_sides_are_judged_and_nothing_is_measured(recorded, tmp_path):
    found = gated(recorded, recorded, tmp_path / "out", Selection())
    assert ([cell.verdict for cell in found.cells], found.exit_code) == (["unchanged"], 0)
    assert not (tmp_path / "out").exists()


def test_two_recorded_sides_without_a_cell_that_is_asked_for_are_refused(recorded, tmp_path):
    with pytest.raises(SelectionError, match="have no cell that is asked for"):
        gated(recorded, recorded, tmp_path, Selection(family=("bloom",)))


def test_a_recorded_side_is_gated_against_what_is_measured_now(recorded, tmp_path, in_this_process):
    accept(recorded, tmp_path / "default", reason="a test")
    for old in (recorded, tmp_path / "default"):
        found = gated(old, subject(), tmp_path / "out", Selection())
        assert ([cell.verdict for cell in found.cells], found.exit_code) == (["unchanged"], 0)
    assert in_this_process == {}


@pytest.mark.usefixtures("in_this_process")
def test_two_sides_are_measured_beside_the_result_and_heard_of(tmp_path):
    heard = Heard()
    found = gated(subject(), subject("again"), tmp_path, heard=heard)
    assert (found.baseline, found.candidate, found.exit_code) == (CURRENT, "again", 0)
    assert {"question.json", "baseline", "candidate"} <= {file.name for file in tmp_path.iterdir()}
    assert sorted(heard.counted) == [("baseline", 1, 1), ("candidate", 1, 1)]


def test_a_port_that_does_not_import_broke_and_its_words_are_told(tmp_path, in_this_process):
    in_this_process["new"] = BROKEN
    heard = Heard()
    found = gated(subject(), subject("new"), tmp_path, BOTH_MODES, heard)
    cell, own = found.cells
    assert (cell.verdict, cell.loading_mode, found.exit_code) == ("broke", "bridge", 1)
    assert (own.verdict, own.cell_id) == ("unchanged", SDPA)
    assert "cannot import name 'Nothing'" in cell.reason
    assert any("cannot import name 'Nothing'" in words for words in heard.said)


@pytest.mark.usefixtures("in_this_process")
def test_what_an_earlier_gate_measured_in_the_folder_is_not_taken_for_new(tmp_path):
    stale = tmp_path / "baseline" / "cells" / f"{SDPA}.parquet"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"PAR1 and then the power went")
    assert gated(subject(), subject(), tmp_path).exit_code == 0


def test_a_worker_that_ends_early_ends_the_gate(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise EnvironmentUnavailable("the worker ended with code 1")

    monkeypatch.setattr(gating, "measure_in", broken)
    monkeypatch.setattr(gating, "import_failures", lambda _: {})
    with pytest.raises(EnvironmentUnavailable, match="the worker ended"):
        gated(subject(), subject(), tmp_path)


def test_the_environment_of_a_spec_keeps_what_the_other_side_has(monkeypatch):
    heard = {}

    def subject_of(spec, **more):
        heard.update(more, spec=spec)
        return subject()

    monkeypatch.setattr(gating, "subject_of", subject_of)
    old = Subject(spec="a==1", environment=current_environment())
    source_of("a==2", prefer=old, given="b", python="3.12", watcher=Heard().watcher)
    assert (heard["prefer"], heard["given"], heard["python"]) == (old, "b", "3.12")
    source_of("a==2", prefer=Path("a-run"), given="", python=None, watcher=Heard().watcher)
    assert heard["prefer"] is None


def test_a_gate_of_breadth_asks_every_architecture():
    cases = gating.cases_for(Selection(profile=("breadth",)))
    assert {case.checkpoint for case in cases} == {"shrunk"}
    assert {"arcee-default@shrunk", "bart-seq2seq@shrunk"} <= {case.id for case in cases}
    cases = gating.cases_for(Selection(profile=("breadth",), family=("arcee",)))
    assert [case.id for case in cases] == ["arcee-default@shrunk", "arcee-off_default@shrunk"]


def test_types_that_only_one_side_knows_are_asked_with_what_it_made_of_them(monkeypatch):
    made = checkpoint_of(Case(family="llama"))
    asked_for = []

    def shrunk_in(side, known):
        asked_for.append(("arcee", "default") in known)
        entry = {"path": str(made.path), "digest": made.digest}
        found = {("tomorrow", "default"): entry, ("never", "default"): {"reason": "it is too new"}}
        return found if side.spec == "new" else {}

    monkeypatch.setattr(gating, "shrunk_in", shrunk_in)
    sides = (subject("old", transformers="5.0.0"), subject("new", transformers="99.0.0"))
    breadth = Selection(profile=("breadth",), mode=("hf_sdpa",), dtype=("exact",), probe=("none",))
    found = question_for(
        dataclasses.replace(breadth, family=("arcee", "tomorrow", "never")), sides, drawn=0, seed=0
    )
    assert asked_for == [True, True]
    assert found.checkpoints["tomorrow-default@shrunk"] == made
    assert found.absent == {"never-default@shrunk": "it is too new"}
    names = {cell.case.family for cell in found.cells}
    assert names == {"arcee", "tomorrow", "never"}
    assert gating.made_elsewhere(ONE_CELL, sides) == {}
    here = subject("new", transformers=current_environment().versions["transformers"])
    assert gating.made_elsewhere(breadth, (here,)) == {}
    narrowed = dataclasses.replace(breadth, family=("arcee",))
    assert gating.made_elsewhere(narrowed, sides) == {}


def test_a_type_that_this_release_can_build_no_more_is_asked_as_another_has_built_it(monkeypatch):
    made = checkpoint_of(Case(family="llama"))

    def shrunk_in(side, known):
        assert ("arcee", "default") not in known
        entry = {"path": str(made.path), "digest": made.digest}
        return {("arcee", "default"): entry if side.spec == "old" else {"reason": "it broke"}}

    monkeypatch.setattr(gating, "shrunk_in", shrunk_in)
    monkeypatch.setattr(gating, "checkpoint_or_why_not", lambda _: "it does not build here")
    sides = (subject("old", transformers="5.0.0"), subject("new", transformers="99.0.0"))
    selection = Selection(profile=("breadth",), family=("arcee",), variant=("default",))
    case = Case(family="arcee", checkpoint="shrunk")
    for order in (sides, sides[::-1]):
        assert gating.made_elsewhere(selection, order) == {case: made}


def test_a_checkpoint_of_ones_own_is_of_the_family_that_its_config_states(tmp_path):
    shutil.copytree(checkpoint_of(Case(family="gpt2")).path, tmp_path / "mine")
    (case,) = gating.cases_for(Selection(checkpoint=(f"folder:{tmp_path / 'mine'}",)))
    assert (case.family, case.variant) == ("gpt2", "default")
    asked_for = Selection(checkpoint=(f"folder:{tmp_path / 'mine'}",), family=("another",))
    assert [case.family for case in gating.cases_for(asked_for)] == ["another"]
