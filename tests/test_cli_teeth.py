"""The commands `harness teeth` and `harness quiet`, on one family."""

from importlib.metadata import version

import pandas as pd
import pytest

from harness import bounds, cli


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Give a function that runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_faults_of_a_family_are_planted_caught_and_written_down(call):
    asked = ("--family", "llama", "--mode", "bridge", "--dtype", "exact", "--kind", "epsilon")
    code, out, _ = call("teeth", *asked, "--out", "teeth.parquet")
    assert code == 0
    assert "exact: caught" in out
    assert "(100.00%)" in out
    assert f"transformers {version('transformers')}" in out
    assert set(pd.read_parquet("teeth.parquet").kind) == {"epsilon"}


def test_clean_cells_of_a_family_are_quiet(call):
    asked = ("--family", "gpt2", "--dtype", "float32", "--seeds", "2", "--out", "quiet.parquet")
    code, out, _ = call("quiet", *asked)
    assert code == 0
    assert "95% upper bound" in out
    assert set(pd.read_parquet("quiet.parquet").verdict) == {"pass"}


def test_where_no_fault_of_the_port_is_read_nothing_was_shown(call):
    asked = ("--family", "gpt2", "--mode", "bridge", "--dtype", "exact", "--kind", "epsilon")
    code, out, _ = call("teeth", *asked, "--out", "teeth.parquet")
    assert code == 1
    assert "idle (not read by the port" in out


def test_a_cell_that_differs_without_a_fault_is_named_and_not_asked(call):
    asked = ("--family", "gptj", "--mode", "bridge", "--dtype", "exact", "--kind", "parameter")
    code, out, _ = call("teeth", *asked)
    assert code == 1
    assert "not examined: gptj-default bridge (exact): " in out


def test_a_false_alarm_is_red(call, monkeypatch):
    monkeypatch.setitem(bounds.ERROR_RATIO_BOUND, "float32", 0.01)
    asked = ("--family", "gpt2", "--dtype", "float32", "--seeds", "1", "--out", "quiet.parquet")
    code, out, _ = call("quiet", *asked)
    assert code == 1
    assert "RED gpt2-default hf_sdpa float32 seed 0 in current on 1 threads" in out


def test_another_environment_is_asked_the_same_cells(call):
    asked = ("--family", "gpt2", "--dtype", "float32", "--seeds", "1", "--also", "current")
    code, _, _ = call("quiet", *asked, "--out", "quiet.parquet")
    assert code == 0
    counts = pd.read_parquet("quiet.parquet").groupby("environment").size()
    assert len(counts) == 2
    assert counts["current"] * 2 == counts.drop("current").item()


@pytest.mark.parametrize("command", ["teeth", "quiet"])
def test_a_family_that_is_not_known_is_named_with_those_that_are(call, command):
    code, _, err = call(command, "--family", "gpt5")
    assert code == 2
    assert "'gpt5' is not known here; next: name one of" in err
