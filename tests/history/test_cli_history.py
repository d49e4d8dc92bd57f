"""`harness history`: steps told, written, and exit codes that say whether one is for the worse."""

import sys

import pandas as pd
import pytest

from harness import cli


@pytest.fixture
def call(write_night, monkeypatch, capfd):
    """Give a function that calls the command beside a folder `runs`: code, output, errors."""
    monkeypatch.chdir(write_night.folder.parent)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", "history", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capfd.readouterr()
        return left.value.code or 0, said.out, said.err

    return run


def test_a_step_for_the_worse_is_told_and_red(call, write_night, cells):
    for day in range(3):
        write_night(day, cells([1.0, 1.0], verdicts=["pass", "fail" if day == 2 else "pass"]))
    code, out, _ = call("runs", "--html", "pages/it.html", "--out", "steps.parquet")
    assert code == 1
    assert "night002" in out
    assert "3 runs of 2 cells: 1 steps, 1 for the worse" in out
    assert (
        "<title>runs: 3 runs</title>" in (write_night.folder.parent / "pages/it.html").read_text()
    )
    assert pd.read_parquet("steps.parquet").run_id.tolist() == ["night002"]


def test_where_nothing_moved_it_is_green_and_says_what_is_left_out(call, write_night, cells):
    write_night(0, cells([1.0]), name="odd", schema_version=1)
    for day in (1, 2):
        write_night(day, cells([1.0]))
    code, out, _ = call("runs")
    assert (code, "left out: odd: " in out) == (0, True)
    assert "2 runs of 1 cells: 0 steps, 0 for the worse" in out


def test_one_family_is_told_alone(call, write_night, cells):
    for day in range(2):
        write_night(day, cells([1.0, 1.0], n_families=2))
    assert "2 runs of 1 cells" in call("runs", "--family", "family1")[1]
    assert call("runs", "--family", "llama")[0] == 2


def test_no_folder_and_no_run_are_refused(call, write_night):
    assert "is no folder" in call("nowhere")[2]
    write_night.folder.mkdir()
    code, _, errors = call("runs")
    assert (code, "no run that can be read" in errors) == (2, True)
