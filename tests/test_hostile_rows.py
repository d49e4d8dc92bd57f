"""Runs that somebody else sent: what rows say is words, and never a path, a command or markup."""

import subprocess
import xml.etree.ElementTree as ET

import pytest
from hand_rows import plain_row
from typer.testing import CliRunner

from harness.case import Case, Cell
from harness.cli import app
from harness.errors import RequirementError, UsageError
from harness.measure.question import cell_of
from harness.measure.writing import open_run
from harness.record import write_part
from harness.report.annotations import of_run
from harness.report.marks import next_lines, spec_in_shell
from harness.report.run_junit import junit
from harness.report.summary import run_markdown
from harness.report.words import print_run
from harness.versions.resolving import parse_spec, versions_in

pytest_plugins = ["pytester"]

HARM = "[/b]`<img src=x>`\x1b]0;owned\x07\n::add-mask::x|"


@pytest.fixture
def run(tmp_path):
    """Give a run whose rows have harm in each field that is text."""
    folder = tmp_path / "a-run"
    open_run(folder, selection={}, plan={})
    texts = ("cell_id", "family", "variant", "checkpoint", "loading_mode", "reason", "first_site")
    row = plain_row("cells", verdict="fail", dtype="exact", probe=None, first_prompt_id=None)
    write_part(folder, "cells", "a-cell", [row | dict.fromkeys(texts, HARM)])
    write_part(folder, "cells", "b-cell", [row | {"verdict": "unavailable", "reason": HARM}])
    return folder


def test_the_table_says_it_in_words_and_steers_no_terminal(run):
    said = []
    print_run(run, write=said.append)
    assert any("<img src=x>" in line for line in said)
    assert not any(control in "".join(said) for control in "\x1b\x07")


def test_annotations_are_a_line_for_each_cell(run):
    lines = list(of_run(run))
    assert len(lines) == 1
    assert lines[0].startswith("::error title=")
    assert "\n" not in lines[0]


def test_junit_is_xml(run):
    assert ET.fromstring(junit(run)).find("testcase") is not None  # noqa: S314 - our own words


ATTACK = "x; touch owned $(touch owned) `touch owned` 'touch owned' \"; touch owned"


@pytest.mark.parametrize(
    "words",
    [
        next_lines({"run_id": ATTACK, "cell_id": ATTACK}),
        f"harness gate {spec_in_shell(ATTACK)} {spec_in_shell('transformers>=5,<6')}",
    ],
)
def test_a_command_that_is_pasted_runs_nothing_else(words, tmp_path):
    (tmp_path / "harness").write_text("#!/bin/sh\necho asked\n")
    (tmp_path / "harness").chmod(0o755)
    for line in words.removeprefix("  next:").splitlines():
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "asked\n"
    assert [path.name for path in tmp_path.iterdir()] == ["harness"]


def test_the_summary_has_it_in_code_alone(run):
    text = run_markdown(run)
    outside = "".join(text.replace(r"\|", "").split("`")[::2])
    assert "<img" in text
    assert "<img" not in outside


def test_rows_of_somebody_else_name_no_file_elsewhere(tmp_path):
    for name in ("../../up", "/root", "a/b", ".hidden", ""):
        with pytest.raises(ValueError, match="no name of a part"):
            write_part(tmp_path / "run", "cells", name, [plain_row("cells")])
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "axis", ["family", "variant", "loading_mode", "dtype", "device", "probe", "checkpoint"]
)
def test_a_stored_row_becomes_a_cell_only_with_names(axis):
    row = {
        "family": "gpt2",
        "variant": "default",
        "checkpoint": "synthetic",
        "loading_mode": "bridge",
        "dtype": "exact",
        "device": "cpu",
        "probe": None,
    }
    assert cell_of(row).id == "gpt2-default.bridge.exact"
    with pytest.raises(UsageError, match=axis):
        cell_of(row | {axis: "../up\n"})


def test_a_checkpoint_keeps_its_path_and_its_cell_is_one_name():
    cell = Cell(
        case=Case(family="gpt2", checkpoint="folder:/a/../b"), loading_mode="bridge", dtype="exact"
    )
    assert "/" not in cell.id


def test_a_name_of_a_run_that_leads_elsewhere_is_refused(pytester):
    pytester.makepyfile("def test_nothing(): pass")
    for name in ("../elsewhere", "/tmp/elsewhere", ".hidden"):  # noqa: S108 - nothing is written
        result = pytester.runpytest_subprocess(f"--run={name}", "-p", "no:cacheprovider")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*no plain name*"])


def test_a_requirement_hands_no_option_to_uv(tmp_path):
    for spec in ("--index-url=https://evil", "-r/etc/passwd", "x@https://evil", "x;y", "../x"):
        done = CliRunner().invoke(app, ["measure", "--out", str(tmp_path / "run"), "--", spec])
        assert isinstance(done.exception, UsageError)
        with pytest.raises(RequirementError, match="is not a requirement"):
            parse_spec(f"transformers==5.9.0 {spec}")


@pytest.mark.parametrize(
    "line", ["-i http://evil==1", "--index-url http://evil #==1", "x==1 --hash=y", "x==1;y", "../x"]
)
def test_a_lock_of_somebody_else_hands_no_option_to_uv(line):
    assert versions_in("# a comment\ntorch==2.13.0+cpu\n") == {"torch": "2.13.0+cpu"}
    with pytest.raises(RequirementError, match="is not a line of a lock"):
        versions_in(f"torch==2.13.0\n{line}\n")
