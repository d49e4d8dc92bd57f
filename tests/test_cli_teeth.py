"""The commands `harness teeth` and `harness quiet`, on one family."""

import pandas as pd
import pytest

from harness import cli


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
    assert "(100.0%)" in out
    assert set(pd.read_parquet("teeth.parquet").kind) == {"epsilon"}


def test_clean_cells_of_a_family_are_quiet(call):
    asked = ("--family", "gpt2", "--dtype", "float32", "--seeds", "2", "--out", "quiet.parquet")
    code, out, _ = call("quiet", *asked)
    assert code == 0
    assert "95% upper bound" in out
    assert set(pd.read_parquet("quiet.parquet").verdict) == {"pass"}


@pytest.mark.parametrize("command", ["teeth", "quiet"])
def test_a_family_that_is_not_known_is_named_with_those_that_are(call, command):
    code, _, err = call(command, "--family", "gpt5")
    assert code == 2
    assert "'gpt5' is not known here; next: name one of" in err
