import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_rows import KINDS, READERS, plain_row, rows_of
from hypothesis import given
from hypothesis import strategies as st

from harness import record
from harness.errors import RunFolderError
from harness.record import COLUMNS, SCHEMA_VERSION, write_columns, write_json, write_part


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "some-run"
    write_json(folder / "run.json", {"schema_version": SCHEMA_VERSION})
    return folder


@pytest.fixture
def whole_run(run):
    for kind in ("prompts", "fingerprints", "deltas", "controls", "positions", "cells"):
        for cell in ("a.bridge.exact", "b.bridge.exact"):
            write_part(run, kind, cell, [plain_row(kind, cell_id=cell)])
    return run


def part_of(run, kind, cell="a.bridge.exact"):
    return run / kind / f"{cell}.parquet"


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_says_what_it_means_and_when_it_is_missing(kind):
    for column in COLUMNS[kind]:
        field = record.schema_of(kind).field(column.name)
        assert len(column.doc) > 5
        assert field.metadata[b"doc"].decode() == column.doc
        assert field.nullable == bool(column.missing)


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_columns_have_one_name(kind):
    names = [column.name for column in COLUMNS[kind]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", KINDS)
def test_no_column_shadows_an_attribute_of_a_data_frame(kind):
    assert {column.name for column in COLUMNS[kind]} & set(dir(pd.DataFrame)) == set()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_what_is_written_is_what_is_read(kind, data, tmp_path_factory):
    rows = data.draw(st.lists(rows_of(kind), min_size=1, max_size=3))
    run = tmp_path_factory.mktemp("run")
    write_part(run, kind, "a.bridge.exact", rows)
    assert pq.read_table(part_of(run, kind)).to_pylist() == rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_read_part_by_part_into_one_frame(kind, whole_run):
    frame = READERS[kind](whole_run)
    assert list(frame.cell_id) == ["a.bridge.exact", "b.bridge.exact"]
    assert list(frame.columns) == [column.name for column in COLUMNS[kind]]


@pytest.mark.parametrize("kind", KINDS)
def test_plain_pandas_reads_the_folder_of_parts(kind, whole_run):
    plain, ours = pd.read_parquet(whole_run / kind), READERS[kind](whole_run)
    assert list(plain.columns) == list(ours.columns)
    assert sorted(plain.cell_id) == sorted(ours.cell_id)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_with_a_key_that_is_no_column_is_refused(kind, run):
    with pytest.raises(ValueError, match=r"unknown or absent columns \['colour'\]"):
        write_part(run, kind, "a", [plain_row(kind, colour="red")])
    assert not (run / kind / "a.parquet").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_lacks_any_column_is_refused(kind):
    for column in COLUMNS[kind]:
        row = plain_row(kind)
        del row[column.name]
        with pytest.raises(ValueError, match=column.name):
            record.table_of(kind, [row])


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_value_is_refused_in_every_column_that_may_not_have_one(kind):
    for column in COLUMNS[kind]:
        row = plain_row(kind, **{column.name: None})
        if column.missing:
            assert record.table_of(kind, [row])[column.name].to_pylist() == [None]
            continue
        with pytest.raises(ValueError, match=f"{column.name} is missing"):
            record.table_of(kind, [row])


def test_a_wrong_row_among_right_ones_is_found():
    rows = [plain_row("cells"), plain_row("cells", verdict=None)]
    with pytest.raises(ValueError, match="verdict is missing"):
        record.table_of("cells", rows)


def test_a_value_of_another_type_is_refused():
    with pytest.raises(pa.ArrowInvalid):
        record.table_of("deltas", [plain_row("deltas", max_abs="large")])


def test_a_part_that_breaks_off_while_written_is_not_there(run, monkeypatch):
    def break_off(file, *_, **__):
        file.write_bytes(b"PAR1 and then the power went")
        raise OSError("no space left")

    monkeypatch.setattr(pq, "ParquetWriter", break_off)
    with pytest.raises(OSError, match="no space left"):
        write_part(run, "cells", "a", [plain_row("cells")])
    assert list(run.glob("cells/*.parquet")) == []
    assert record.finished_cells(run) == frozenset()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [".c.bridge.exact.4711", ".c.bridge.exact.parquet"])
def test_readers_pass_over_a_part_that_broke_off(kind, name, whole_run):
    (whole_run / kind / name).write_bytes(b"PAR1 and then the power went")
    assert len(READERS[kind](whole_run)) == len(pd.read_parquet(whole_run / kind)) == 2


def test_a_part_written_again_takes_the_place_of_the_first(whole_run):
    write_part(whole_run, "cells", "a.bridge.exact", [plain_row("cells", verdict="fail")])
    assert sorted(record.read_cells(whole_run).verdict) == ["fail", "words"]


def test_finished_cells_are_those_whose_own_part_is_there(whole_run):
    part_of(whole_run, "cells").unlink()
    assert record.finished_cells(whole_run) == {"b.bridge.exact"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_part_is_named(kind, whole_run):
    part = part_of(whole_run, kind)
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(RunFolderError, match=rf"{kind}/a\.bridge\.exact\.parquet cannot be read"):
        READERS[kind](whole_run)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_part_is_named(kind, whole_run):
    part_of(whole_run, kind).write_bytes(b"")
    with pytest.raises(RunFolderError, match=rf"{kind}/a\.bridge\.exact\.parquet cannot be read"):
        READERS[kind](whole_run)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_without_one_of_the_columns_is_named_and_not_filled_with_nulls(kind, whole_run):
    part = part_of(whole_run, kind)
    pq.write_table(pq.read_table(part).drop_columns(["cell_id"]), part)
    with pytest.raises(RunFolderError, match=r"a\.bridge\.exact\.parquet: .*\['cell_id'\]"):
        READERS[kind](whole_run)


def test_a_run_in_which_no_cell_finished_is_said_to_be_one(run):
    for reader in READERS.values():
        with pytest.raises(RunFolderError, match="no cell of it finished"):
            reader(run)


def test_a_run_whose_cells_measured_nothing_has_no_other_rows(run):
    write_part(run, "cells", "a", [plain_row("cells", verdict="unavailable")])
    for kind in ("deltas", "fingerprints", "prompts"):
        frame = READERS[kind](run)
        assert frame.empty
        assert list(frame.columns) == [column.name for column in COLUMNS[kind]]


@pytest.mark.parametrize("content", [None, "", "{", "[]", "7"])
def test_a_folder_without_a_readable_run_json_is_not_a_run(content, tmp_path):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunFolderError, match=f"{tmp_path.name} is not a run"):
        record.read_run(tmp_path)


@pytest.mark.parametrize("described", [{}, {"schema_version": SCHEMA_VERSION + 1}])
def test_a_run_of_another_schema_version_is_refused(described, tmp_path):
    write_json(tmp_path / "run.json", described)
    with pytest.raises(RunFolderError, match=f"but should be {SCHEMA_VERSION}"):
        record.read_run(tmp_path)


def test_a_json_file_appears_whole_and_leaves_nothing_beside_it(tmp_path):
    write_json(tmp_path / "deep" / "run.json", {"b": 1, "a": [2]})
    assert json.loads((tmp_path / "deep" / "run.json").read_text()) == {"a": [2], "b": 1}
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["run.json"]


def test_columns_json_says_what_every_column_means(tmp_path):
    write_columns(tmp_path)
    told = json.loads((tmp_path / "columns.json").read_text())
    assert told.keys() == COLUMNS.keys()
    for kind, columns in COLUMNS.items():
        assert [(each["name"], each["doc"]) for each in told[kind]] == [
            (column.name, column.doc) for column in columns
        ]
