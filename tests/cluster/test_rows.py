import pytest

from harness.cluster.driving import check_is_new
from harness.cluster.loop import Order
from harness.cluster.outcomes import outcome_in
from harness.cluster.rows import OUTCOMES, Rows
from harness.errors import RunFolderError, UsageError
from harness.record import finished_cells, write_json

CELL, OTHER = "gpt2-default.bridge.exact", "gpt2-default.bridge.float32"
SHARED = "gpt2-default.exact.reference"


def write_cell(run, cell, *, words="rows"):
    """Write a cell's parts; their content means nothing to who copies them."""
    for kind in ("deltas", "prompts", "fingerprints", "cells"):
        (run / kind).mkdir(parents=True, exist_ok=True)
        (run / kind / f"{cell}.parquet").write_text(words)
    (run / "fingerprints" / f"{SHARED}.parquet").write_text(words)
    write_json(run / OUTCOMES / f"{cell}.json", [{"outcome": words}])
    return run


def parts_of(run):
    return {str(part.relative_to(run)) for part in run.rglob("*.parquet")}


@pytest.fixture(params=["folder", "file://", "memory://"])
def rows(request, tmp_path):
    """Give an empty place for rows: a plain folder, a URL of one, and a store that is no folder."""
    path = tmp_path / "shared" / "mine"
    return Rows(url=str(path) if request.param == "folder" else f"{request.param}{path}")


def test_parts_of_a_finished_cell_go_there_and_come_back(rows, tmp_path):
    run = write_cell(tmp_path / "scratch", CELL)
    rows.publish(run, [CELL])
    rows.fetch(tmp_path / "mine", [CELL])
    assert parts_of(tmp_path / "mine") == parts_of(run)
    assert rows.finished() == finished_cells(tmp_path / "mine") == {CELL}
    assert rows.outcome(CELL) == outcome_in(run, CELL) == [{"outcome": "rows"}]


def test_a_part_is_not_taken_for_whole_before_its_own_row_is_there(rows, tmp_path):
    run = write_cell(tmp_path / "scratch", CELL)
    row = run / "cells" / f"{CELL}.parquet"
    row.unlink()
    rows.publish(run, [CELL])
    rows.fetch(tmp_path / "mine", [CELL])
    assert rows.finished() == frozenset()
    assert f"deltas/{CELL}.parquet" not in parts_of(tmp_path / "mine")


@pytest.mark.parametrize("move", ["_put", "_get"])
def test_a_cells_own_row_is_copied_after_all_others(rows, tmp_path, move, monkeypatch):
    run = write_cell(tmp_path / "scratch", CELL)
    rows.publish(run, [CELL])
    order, copy = [], getattr(Rows, move)

    def noted(self, part):
        order.append(part.parent.name)
        copy(self, part)

    monkeypatch.setattr(Rows, move, noted)
    rows.publish(run, [CELL])
    rows.fetch(tmp_path / "mine", [CELL])
    assert order[-1] == "cells"
    assert order.count("cells") == 1


def test_a_cell_that_is_measured_twice_is_one_cell_and_what_its_case_shares_stays(rows, tmp_path):
    rows.publish(write_cell(tmp_path / "lost", CELL, words="first"), [CELL])
    rows.publish(write_cell(tmp_path / "again", CELL, words="second"), [CELL])
    rows.fetch(tmp_path / "mine", [CELL])
    assert (tmp_path / "mine" / "cells" / f"{CELL}.parquet").read_text() == "second"
    assert (tmp_path / "mine" / "fingerprints" / f"{SHARED}.parquet").read_text() == "first"


def test_only_cells_that_are_over_and_asked_for_are_copied(rows, tmp_path):
    run = write_cell(tmp_path / "scratch", CELL)
    write_cell(run, OTHER)
    rows.publish(run, [CELL])
    assert rows.finished() == {CELL}
    rows.publish(run, [OTHER])
    rows.fetch(tmp_path / "mine", [OTHER])
    assert finished_cells(tmp_path / "mine") == {OTHER}


def test_nothing_but_whole_parts_lies_in_a_shared_folder(tmp_path):
    rows = Rows(url=str(tmp_path / "shared"))
    rows.publish(write_cell(tmp_path / "scratch", CELL), [CELL])
    there = {path.suffix for path in (tmp_path / "shared").rglob("*") if path.is_file()}
    assert there == {".parquet", ".json"}


def test_rows_that_are_in_the_runs_own_folder_are_not_copied_onto_themselves(tmp_path):
    run = write_cell(tmp_path / "mine", CELL)
    Rows(url=f"file://{run}").publish(run, [CELL])
    Rows(url=str(run)).fetch(run, [CELL])
    assert (run / "cells" / f"{CELL}.parquet").read_text() == "rows"


@pytest.mark.parametrize("url", ["nowhere://bucket/runs", "s4://bucket"])
def test_a_url_that_fsspec_does_not_know_says_what_to_do(url):
    with pytest.raises(UsageError, match=r"(?s)no rows can be written there.*next:"):
        Rows(url=url).finished()


def test_rows_of_a_run_are_below_its_name_so_that_no_other_run_is_taken_for_it(tmp_path):
    order = Order(address="auto", rows="memory://runs", cell_timeout=1.0)
    assert order.rows_of(tmp_path / "mine").url == "memory://runs/mine"
    assert order.rows_of(tmp_path / "other") != order.rows_of(tmp_path / "mine")


def test_a_new_run_is_not_written_where_one_of_its_name_has_rows(rows, tmp_path):
    check_is_new(rows, tmp_path / "mine")
    rows.publish(write_cell(tmp_path / "scratch", CELL), [CELL])
    with pytest.raises(RunFolderError, match="1 cells already"):
        check_is_new(rows, tmp_path / "mine")
