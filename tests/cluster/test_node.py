"""What a node does with a piece: real subprocesses of pytest, whose tests write rows themselves."""

import os
import sys
import time

import pytest

from harness.case import Case, Cell
from harness.cluster.node import measure
from harness.cluster.piece import ALIKE, Piece, grouped
from harness.cluster.rows import Rows
from harness.errors import UsageError
from harness.provenance import gather

NAMES = [f"gpt2-default.hf_sdpa.{dtype}" for dtype in ("exact", "float32", "bfloat16")]
FIRST, SECOND, THIRD = NAMES
TESTS = """
    import os, signal, sys, time
    from pathlib import Path
    import pytest
    from harness import Case
    from harness.measure.writing import open_run
    from harness.record import write_part

    def row(cell, run):
        from harness.record import COLUMNS
        def plain(column):
            if column.missing: return None
            return "x" if "string" in str(column.type) else 0
        known = {{"run_id": run.name, "cell_id": cell.id, "verdict": "pass"}}
        return {{c.name: known.get(c.name, plain(c)) for c in COLUMNS["cells"]}}

    @pytest.mark.harness(Case(family="gpt2"))
    def test_port_agrees(cell, request):
        piece = Path(request.config.getoption("piece"))
        run = next(iter([piece.parent / {run!r}]))
        log = Path({log!r})
        with log.open("a") as file:
            file.write(cell.dtype + chr(10))
        {body}
        open_run(run, selection={{}}, plan={{}})
        write_part(run, "cells", cell.id, [row(cell, run)])
        {after}
"""


@pytest.fixture
def piece(tmp_path):
    """Give a piece of three cells of one case, in a folder of its own, as a body of a test says."""
    gathered = gather()
    gathered["commit"] = None  # the folder is in no repository

    def make(body="pass", after="pass", **more):
        log = tmp_path / "log"
        text = TESTS.format(body=body, after=after, run="mine", log=str(log))
        lines = [line[4:] for line in text.splitlines()]
        (tmp_path / "test_cases.py").write_text("\n".join(lines))
        asked = {
            "run_id": "mine",
            "folder": str(tmp_path),
            "python": sys.executable,
            "finding": [str(tmp_path / "test_cases.py"), f"--rootdir={tmp_path}"],
            "cells": NAMES,
            "controls": [],
            "selection": {"mode": ["hf_sdpa"]},
            "plan": {"drawn": 0},
            "trusted": [],
            "alike": {name: gathered[name] for name in ALIKE},
            "variables": {},
            "rows": f"file://{tmp_path}/rows/mine",
            "cell_timeout": 60.0,
        }
        return Piece(**{**asked, **more})

    return make


def begun_in(tmp_path):
    log = tmp_path / "log"
    return log.read_text().split() if log.exists() else []


def if_second(words):
    return f"if cell.dtype == 'float32': {words}"


def test_every_cell_of_a_piece_has_its_rows_and_what_pytest_said(piece, tmp_path):
    answer = measure(piece())
    assert answer.lost == {}
    assert sorted(answer.outcomes) == sorted(NAMES) == sorted(Rows(url=piece().rows).finished())
    assert [said["outcome"] for said in answer.outcomes[FIRST]] == ["passed"] * 3
    assert answer.machine["cores"] == os.cpu_count()
    assert begun_in(tmp_path) == ["exact", "float32", "bfloat16"]  # in one subprocess, in order


@pytest.mark.parametrize(
    ("kill", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("os._exit(3)", "ended with exit code 3"),
    ],
)
def test_a_cell_that_takes_its_process_down_is_lost_alone_and_says_how(piece, tmp_path, kill, told):
    answer = measure(piece(if_second(kill)))
    assert sorted(answer.outcomes) == sorted([FIRST, THIRD])
    assert list(answer.lost) == [SECOND]
    assert told in answer.lost[SECOND].words
    assert "(alone, too)" in answer.lost[SECOND].words
    assert answer.lost[SECOND].seconds > 0
    assert begun_in(tmp_path) == ["exact", "float32", "bfloat16", "float32"]


def test_a_cell_that_takes_its_process_down_once_is_measured_the_second_time(piece, tmp_path):
    once = f"(not os.path.exists({str(tmp_path / 'once')!r}))"
    body = if_second(f"{once} and [open({str(tmp_path / 'once')!r}, 'w'), os._exit(9)]")
    answer = measure(piece(body))
    assert answer.lost == {}
    assert sorted(answer.outcomes) == sorted(NAMES)


def test_a_cell_that_hangs_is_ended_and_says_so(piece):
    started = time.monotonic()
    answer = measure(piece(if_second("time.sleep(600)"), cell_timeout=15.0))
    assert list(answer.lost) == [SECOND]
    assert "did not end within --cell-timeout, 15 s" in answer.lost[SECOND].words
    assert sorted(answer.outcomes) == sorted([FIRST, THIRD])
    assert time.monotonic() - started < 120


def test_a_process_that_dies_after_its_rows_are_written_has_not_ended_the_test(piece):
    answer = measure(piece(after=if_second("os._exit(9)")))
    assert list(answer.lost) == [SECOND]
    assert SECOND not in Rows(url=piece().rows).finished()


def test_a_test_that_fails_after_its_cell_is_green_fails_on_a_cluster_too(piece):
    answer = measure(piece(after=if_second("assert False, 'more is asked'")))
    assert answer.lost == {}
    call = next(said for said in answer.outcomes[SECOND] if said["when"] == "call")
    assert call["outcome"] == "failed"


def test_a_test_that_measures_nothing_is_not_green(piece):
    answer = measure(piece(if_second("pytest.skip('not today')")))
    assert list(answer.lost) == [SECOND]


def test_cells_that_a_lost_node_has_finished_are_not_measured_again(piece, tmp_path):
    measure(piece(cells=[FIRST, SECOND]))
    (tmp_path / "log").unlink()
    answer = measure(piece())
    assert begun_in(tmp_path) == ["bfloat16"]
    assert sorted(answer.outcomes) == sorted(NAMES)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("commit", "0123abc", "commit is None, not '0123abc'"),
        ("python", "3.0", "not '3.0'"),
        ("packages", {"torch": "1.0"}, "packages."),
    ],
)
def test_a_node_that_is_not_as_the_driver_is_measures_nothing_and_says_what_differs(
    piece, tmp_path, name, value, told
):
    answer = measure(piece(alike={**piece().alike, name: value}))
    assert sorted(answer.lost) == sorted(NAMES)
    assert all("this node is not as the driver is" in loss.words for loss in answer.lost.values())
    assert told in answer.lost[FIRST].words
    assert begun_in(tmp_path) == []


@pytest.mark.parametrize("lacking", [{"folder": "/nowhere"}, {"python": "/nowhere/python"}])
def test_a_node_without_the_folder_or_the_python_says_so(piece, lacking):
    answer = measure(piece(**lacking))
    assert sorted(answer.lost) == sorted(NAMES)
    assert "the node lacks the driver's folder or Python" in answer.lost[FIRST].words


def test_a_piece_is_read_as_it_was_written(piece, tmp_path):
    from harness.record import write_json

    write_json(tmp_path / "piece.json", piece().written())
    assert Piece.read(tmp_path / "piece.json").written() == piece().written()


def test_a_node_that_is_alike_is_not_refused(piece):
    piece().check({**gather(), "commit": None})
    with pytest.raises(UsageError, match="commit is 'other'"):
        piece().check({**gather(), "commit": "other"})


def test_cells_of_a_case_on_a_device_are_one_piece():
    cells = [
        Cell(case=Case(family=family), loading_mode="bridge", dtype=dtype, device=device)
        for dtype in ("exact", "float32")
        for family in ("gpt2", "llama")
        for device in ("cpu", "cuda")
    ]
    groups = grouped(cells)
    assert [len(group) for group in groups] == [2] * 4
    assert {len({(cell.case.id, cell.device) for cell in group}) for group in groups} == {1}
