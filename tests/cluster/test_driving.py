import pytest
import ray

from harness.case import Case, Cell
from harness.cli import _of_cluster
from harness.cluster.driving import _given_up, _not_once
from harness.cluster.engine import reached
from harness.cluster.piece import Piece
from harness.cluster.rows import Rows
from harness.errors import UsageError
from harness.measure.run import lost_row
from harness.measure.writing import open_run
from harness.record import write_part
from tests.cluster.test_rows import CELL, OTHER, write_cell

pytest_plugins = ["pytester"]

CASES = """
    import pytest
    from harness import Case

    @pytest.mark.harness(Case(family="gpt2"))
    def test_port_agrees(cell, check_cell):
        check_cell(cell)
"""
ASKED = ("--mode=hf_sdpa", "--dtype=exact", "-p", "no:cacheprovider", "--executor=ray")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_an_address_where_no_ray_is_says_what_to_do(pytester, address):
    pytester.makepyfile(test_cases=CASES)
    result = pytester.runpytest_subprocess(*ASKED, f"--address={address}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            f"ERROR: --address {address}: no Ray cluster can be reached there",
            "  found: *",
            "  allowed: auto *",
            "  next:    ray start --head*",
        ]
    )


@pytest.mark.parametrize("raised", [ConnectionError("none runs"), RuntimeError("a\nlong log")])
def test_no_cluster_of_this_machine_says_what_to_do(monkeypatch, raised):
    def refuse(**_):
        raise raised

    monkeypatch.setattr(ray, "init", refuse)
    told = r"(?s)--address auto: no Ray.*next:    ray start"
    with pytest.raises(UsageError, match=told), reached("auto"):
        pass


def test_where_ray_is_not_installed_it_says_what_to_install(pytester):
    pytester.makepyfile(test_cases=CASES)
    pytester.makeconftest("import sys; sys.modules['ray'] = None")
    result = pytester.runpytest_subprocess(*ASKED)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Ray is not installed*", "*'model-port-harness[[]ray[]]'*"])


def test_a_run_that_asks_no_cluster_does_not_load_the_wing(pytester):
    pytester.makepyfile("import sys\ndef test_it(): assert 'harness.cluster' not in sys.modules")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("-n2",), "*--executor ray and -n both spread cells*"),
        (("--rows=s4://bucket",), "*no rows can be written there*"),
    ],
)
def test_options_that_do_not_fit_are_a_wrong_use(pytester, more, told):
    pytester.makepyfile(test_cases=CASES)
    result = pytester.runpytest_subprocess(*ASKED, *more)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


def test_two_tests_of_one_cell_are_refused(pytester):
    pytester.makepyfile(test_cases=CASES, test_again=CASES)
    result = pytester.runpytest_subprocess(*ASKED)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*gpt2-default.hf_sdpa.exact is measured by two tests*"])


def test_a_cell_that_did_not_come_back_is_told_of(tmp_path):
    cell = Cell(case=Case(family="gpt2"), loading_mode="bridge", dtype="exact")
    open_run(tmp_path, selection={}, plan={})
    assert list(_not_once(tmp_path, dict.fromkeys([CELL, OTHER]))) == [CELL, OTHER]
    write_part(tmp_path, "cells", CELL, [lost_row(cell, "mine", reason="r", seconds=1.0)])
    missing = _not_once(tmp_path, dict.fromkeys([CELL, OTHER]))
    assert list(missing) == [OTHER]
    assert "give --rows a URL that all nodes and this machine share" in missing[OTHER]


def test_of_a_piece_that_nobody_answered_what_is_there_is_kept(tmp_path):
    rows = Rows(url=f"memory://{tmp_path}")
    rows.publish(write_cell(tmp_path / "scratch", CELL), [CELL])
    asked = dict.fromkeys(Piece.__dataclass_fields__)
    answer = _given_up(Piece(**{**asked, "cells": [CELL, OTHER]}), rows, "no node was left")
    assert list(answer.outcomes) == [CELL]
    assert answer.lost[OTHER].words == "not measured: no node was left"


def test_the_command_hands_a_clusters_options_on():
    assert _of_cluster("local", "auto", None) == []
    found = _of_cluster("ray", "head:6379", "s3://bucket")
    assert found == ["--executor=ray", "--address=head:6379", "--rows=s3://bucket"]


def test_a_clusters_option_without_a_cluster_is_not_passed_over():
    with pytest.raises(UsageError, match="--rows: only a cluster has it; next: add --executor ray"):
        _of_cluster("local", "auto", "s3://bucket")
