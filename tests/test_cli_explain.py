"""The two ways to see what processing does, told by the command on real cells."""

import sys

import pytest
from hand_rows import unpack

from harness import cli
from harness.record import asked_relation, read_cells, read_deltas, read_run

CASES = """
import pytest
from harness import Case

@pytest.mark.harness(Case(family="gpt2"))
def test_port_agrees(cell, check_cell):
    check_cell(cell)
"""
PROBES = """
import pytest
from harness import Case

@pytest.mark.harness(Case(family="chatglm"))
def test_model_keeps_what_it_owes(probe_cell, check_cell):
    check_cell(probe_cell)
"""
CHATGLM = "chatglm-default.hf_sdpa.float32.hidden_to_logits"
COMPAT, BRIDGE = "gpt2-default.bridge_compat.float32", "gpt2-default.bridge.float32"
ASKED = (
    *("run", "--mode", "bridge,bridge_compat", "--dtype", "float32", "--probe", "none"),
    *("--prompts", "0"),
)


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """Give a function that calls the command in a folder with gpt2's case: code, output, errors."""
    folder = tmp_path_factory.mktemp("explained")
    (folder / "cases").mkdir()
    (folder / "cases" / "test_ports_agree.py").write_text(CASES)

    def call(capfd, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["harness", *arguments])
            with pytest.raises(SystemExit) as left:
                cli.main()
        said = capfd.readouterr()
        return left.value.code or 0, said.out, said.err

    call.folder = folder
    return call


@pytest.fixture(scope="module")
def measured(called):
    """Give a function that measures the two cells once per relation, and what that said."""
    done = {}

    def measure(capfd, name, *relation):
        if name not in done:
            out = str(called.folder / name)
            done[name] = called(capfd, *ASKED, "--out", out, *relation)
        return f"{called.folder / name / 'latest'}", done[name]

    return measure


@pytest.fixture
def forced(measured, capfd):
    return measured(capfd, "forced", "--relation", "equal")


@pytest.fixture
def plain(measured, capfd):
    return measured(capfd, "plain")


@pytest.fixture
def told(called, capfd):
    """Give a function that has a cell explained, and gives what is said as one line."""

    def tell(run, cell):
        code, out, _ = called(capfd, "explain", run, cell)
        assert code == 0
        assert len(out.splitlines()) <= 25
        return " ".join(out.split())

    return tell


def test_forced_to_be_equal_logits_are_shifted_by_a_constant_per_position(forced, told):
    run, (code, said, _) = forced
    assert code == 1
    assert said.splitlines()[-1].startswith("not gated: every comparison was forced to be equal")
    found = told(run, COMPAT)
    assert "logits: the reference's, shifted by a constant per position" in found
    assert "because of `center_unembed`: log-softmax, probabilities and the top token do" in found
    assert "Nothing is wrong with the port" in found
    assert "Which mode is clean: bridge, in the same run." in found


def test_a_forced_run_keeps_in_which_sense_each_site_agrees(forced):
    run, _ = forced
    assert asked_relation(read_run(run)) == "equal"
    deltas = read_deltas(run, cell=COMPAT)
    assert set(deltas.relation) == {"equal"}
    failing = deltas[deltas.verdict == "fail"]
    assert failing.agrees_as.notna().all()
    assert set(failing[failing.site == "logits"].agrees_as) == {"shift"}
    assert (failing.shift_abs > 0).all()
    assert deltas[deltas.verdict == "pass"].agrees_as.isna().all()


def test_forced_to_be_equal_an_unprocessed_bridge_passes_and_nothing_is_shifted(forced, told):
    run, _ = forced
    cells = read_cells(run).set_index("cell_id")
    assert (cells.verdict[BRIDGE], cells.verdict[COMPAT]) == ("pass", "fail")
    found = told(run, BRIDGE)
    assert "Nothing differs" in found
    for word in ("shift", "constant", "center_"):
        assert word not in found


def test_a_forced_cell_is_replayed_as_it_was_forced(forced, called, capfd):
    run, _ = forced
    code, out, _ = called(capfd, "replay", run, COMPAT)
    assert (code, "embed: port differs from reference" in out) == (0, True)


def test_a_forced_run_is_no_baseline(forced, called, capfd):
    run, _ = forced
    code, _, said = called(capfd, "baseline", "accept", run, "--reason", "a test")
    assert (code, "its relations were forced (--relation equal)" in said) == (2, True)
    assert not (called.folder / "reports" / "baselines").exists()


def test_by_the_modes_processing_the_same_cell_passes_and_logits_agree_up_to_a_shift(plain, told):
    run, (code, said, _) = plain
    assert (code, "FORCED" in said, "not gated: every" in said) == (0, False, False)
    assert said.splitlines()[-2] == "not gated: no run of --profile default was accepted yet"
    found = told(run, COMPAT)
    assert "logits agree up to a constant per position" in found
    assert "because of `center_unembed`" in found
    assert "Nothing differs" in found


def test_chatglms_last_hidden_state_is_before_the_norm_and_glms_after_it(called, told, capfd):
    (called.folder / "cases" / "test_probes.py").write_text(PROBES)
    asked = ("run", "--mode", "hf_sdpa", "--dtype", "float32", "--probe", "hidden_to_logits")
    asked = (*asked, "--prompts", "0", "--cases", "cases/test_probes.py")
    told_of = {}
    for name, relation in (("naive", ("--relation", "equal")), ("by_convention", ())):
        code, _, _ = called(capfd, *asked, "--out", str(called.folder / name), *relation)
        told_of[name] = (code, told(str(called.folder / name / "latest"), CHATGLM))
    code, found = told_of["naive"]
    assert code == 1
    assert "the reference's hidden_states[-1] is before the final norm" in found
    assert "the port's is after the final norm" in found
    assert "with the norm applied that is still due, they agree" in found
    assert "--probe hidden_to_logits --relation equal" in found
    code, found = told_of["by_convention"]
    assert (code, "before the final norm" in found) == (0, False)


def test_a_run_or_cell_that_there_is_not_is_refused_with_the_nearest(plain, called, capfd):
    run, _ = plain
    code, _, said = called(capfd, "explain", run, "gpt2-default.bridge_compt.float32")
    assert (code, f"did you mean {COMPAT!r}?" in said) == (2, True)
    code, _, said = called(capfd, "explain", "nowhere", COMPAT)
    assert (code, "nowhere is not a run" in said) == (2, True)


def test_a_forced_run_that_is_resumed_stays_forced(forced, called, capfd):
    run, _ = forced
    folder = (called.folder / "forced" / "latest").resolve()
    unpack(folder)
    (folder / "cells" / f"{BRIDGE}.parquet").unlink()
    asked = ("run", "--mode", "bridge,bridge_compat", "--dtype", "float32", "--resume", run)
    code, said, _ = called(capfd, *asked)
    assert code == 1  # of the cell that failed before
    assert said.splitlines()[-1].startswith("not gated: every comparison was forced")
    assert set(read_deltas(run, cell=BRIDGE).relation) == {"equal"}
