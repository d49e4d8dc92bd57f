"""Seals and checksums: what is stored is read as it was written, or refused by name."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_rows import KINDS, READERS, plain_row
from hypothesis import assume, given
from hypothesis import strategies as st

from harness import record
from harness.errors import HarnessError, RunFolderError
from harness.record import COLUMNS, PACKED, SCHEMA_VERSION, pack, sealing, write_part, write_sealed
from harness.record import packed as packed_files
from harness.record.columns import plain_schema
from harness.record.sealing import BLANK, SEAL, is_sealed, read_sealed, sealed, sealed_json

CELL = "gpt2-default.bridge.exact"
REFERENCE = "gpt2-default.exact.reference"
OF_CELLS = ("deltas", "fingerprints", "positions", "prompts")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Give a run of one cell, whose own part is witness of the others."""
    run = tmp_path_factory.mktemp("runs") / "a-run"
    write_sealed(run / "run.json", {"schema_version": SCHEMA_VERSION})
    for kind in ("controls", *OF_CELLS):
        write_part(run, kind, CELL, [plain_row(kind, cell_id=CELL)])
    write_part(run, "fingerprints", REFERENCE, [plain_row("fingerprints", cell_id=None)])
    beside = [*(f"{kind}/{CELL}" for kind in OF_CELLS), f"fingerprints/{REFERENCE}"]
    write_part(run, "cells", CELL, [plain_row("cells", cell_id=CELL)], beside=beside)
    return run


@pytest.fixture
def run(written, tmp_path):
    return shutil.copytree(written, tmp_path / "a-run")


@pytest.fixture
def packed(run):
    pack(run)
    return run


def part_of(run, kind, name=CELL):
    return run / kind / f"{name}.parquet"


def turned(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def rows_read(run, kind):
    return READERS[kind](run).astype(str).to_dict("records")


def unsealed(file, kind, row):
    """Write a part as a harness did that knew no seals."""
    pq.write_table(record.table_of(kind, [row]).cast(plain_schema(kind)), file)


# A seal is of all bytes.


@given(st.binary(), st.binary(), st.data())
def test_whatever_is_sealed_fits_its_seal_and_no_bit_of_it_may_turn(before, after, data):
    assume(b"seal" not in before + after)  # a file has one seal, which its writer puts last
    content = sealed(before + BLANK.encode() + after)
    assert is_sealed(content)
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    start = len(before)
    changed = turned(content, place)
    if start <= place // 8 < start + len("seal:sha256:"):  # then there is no seal any more
        assert not is_sealed(changed)
        return
    with pytest.raises(ValueError, match="not as it was written"):
        is_sealed(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bit_that_turned_anywhere_in_a_part_is_told(kind, run):
    file = part_of(run, kind)
    content, before = file.read_bytes(), rows_read(run, kind)
    for bit in range(3, len(content) * 8, 997):
        file.write_bytes(turned(content, bit))
        with pytest.raises(
            RunFolderError, match=rf"{kind}/{CELL}\.parquet cannot be read .*delete"
        ):
            READERS[kind](run)
    file.write_bytes(content)
    assert rows_read(run, kind) == before


def test_a_bit_that_turned_in_a_part_was_another_number_to_parquet(run):
    """So that the seal is needed: a part has no checksums of its own."""
    file = part_of(run, "fingerprints")
    content, rows, silent = file.read_bytes(), pq.read_table(file), 0
    for bit in range(0, len(content) * 8, 31):
        try:
            silent += pq.read_table(pa.BufferReader(turned(content, bit))) != rows
        except (OSError, ValueError, pa.ArrowException, KeyError, IndexError):
            continue
    assert silent


@pytest.mark.parametrize("kind", KINDS)
def test_a_bit_that_turned_in_the_footer_of_a_packed_file_is_told(kind, packed):
    file = packed / kind / PACKED
    content, before = file.read_bytes(), rows_read(packed, kind)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for bit in range(footer * 8, len(content) * 8, 499):
        file.write_bytes(turned(content, bit))
        with pytest.raises(RunFolderError, match=rf"{kind}/{PACKED} cannot be read .*restore it"):
            READERS[kind](packed)
    file.write_bytes(content)
    assert rows_read(packed, kind) == before


def test_a_bit_that_turned_in_the_header_of_a_page_is_told_or_changes_nothing(packed):
    file = packed / "positions" / PACKED
    content, before = file.read_bytes(), rows_read(packed, "positions")
    told = 0
    for bit in range(4 * 8, 60 * 8):  # the header of the first dictionary and its page
        file.write_bytes(turned(content, bit))
        try:
            assert rows_read(packed, "positions") == before
        except RunFolderError:
            told += 1
    assert told > 100


def test_a_dictionary_that_lost_its_names_is_told_and_a_whole_one_is_silent(packed):
    opened = packed_files.open_packed(packed, "cells")
    assert opened.read([0], ["family"]).num_rows == 1
    none = pa.array([], pa.string())
    short = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), none, safe=False)
    sealing.check_indices(opened.read([0], ["family"]))
    with pytest.raises(pa.ArrowInvalid, match="indices"):
        sealing.check_indices(pa.table({"family": short}))


# JSON.


def test_sealed_json_is_read_as_it_was_and_without_its_seal(tmp_path):
    write_sealed(tmp_path / "a.json", {"b": [1, None, 0.1], "a": {"ä": "ö"}})
    assert read_sealed(tmp_path / "a.json") == {"b": [1, None, 0.1], "a": {"ä": "ö"}}
    assert json.loads((tmp_path / "a.json").read_text())[SEAL].startswith("seal:sha256:")


def test_a_bit_that_turned_anywhere_in_sealed_json_is_told(tmp_path):
    file = tmp_path / "a.json"
    content = sealed_json({"number": 12.5, "words": "as it was", "more": [1, 2]}).encode()
    for bit in range(0, len(content) * 8, 3):
        file.write_bytes(turned(content, bit))
        with pytest.raises(ValueError, match=r".+"):
            read_sealed(file)


def test_json_without_a_seal_is_read_as_older_ones_are(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_sealed(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize("text", ["[]", "7", "", "{", '"x"', "[" * 100_000, '{"seal": "x"}'])
def test_what_is_no_table_or_has_half_a_seal_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        read_sealed(tmp_path / "a.json")


# What was written before there were seals, or by another release.


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_without_a_seal_is_read_as_older_ones_are(kind, run):
    before = rows_read(run, kind)
    unsealed(part_of(run, kind), kind, plain_row(kind, cell_id=CELL))
    assert rows_read(run, kind) == before


@pytest.mark.parametrize("version", [*range(1, SCHEMA_VERSION), SCHEMA_VERSION + 1])
def test_a_run_of_another_schema_version_is_refused_by_its_number(version, run):
    write_sealed(run / "run.json", {"schema_version": version})
    words = f"schema_version={version}, but should be {SCHEMA_VERSION}; read it with the release"
    for kind in KINDS:
        with pytest.raises(RunFolderError, match=words):
            READERS[kind](run)


# A part that is gone.


@pytest.mark.parametrize("kind", OF_CELLS)
def test_a_part_of_a_finished_cell_that_is_gone_is_missed(kind, run):
    part_of(run, kind).unlink()
    for ask in (READERS[kind], pack):
        with pytest.raises(RunFolderError, match=rf"{kind}/{CELL}\.parquet is gone.*\n.*restore"):
            ask(run)


def test_fingerprints_of_a_reference_that_are_gone_are_missed(run):
    part_of(run, "fingerprints", REFERENCE).unlink()
    with pytest.raises(RunFolderError, match=r"exact\.reference\.parquet is gone"):
        record.read_fingerprints(run)


@pytest.mark.parametrize("kind", OF_CELLS)
def test_a_part_that_was_packed_is_not_missed(kind, run):
    before = rows_read(run, kind)
    own = part_of(run, "cells").read_bytes()
    pack(run)
    part_of(run, "cells").write_bytes(own)  # as when a packing was killed
    assert rows_read(run, kind) == before


# What run.json says.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("packages", ["torch"]),
        ("packages", {"torch": 2.13}),
        ("selection", "llama"),
        ("selection", {"family": "llama"}),
        ("selection", {"family": [7]}),
        ("plan", 7),
        ("started", 20260101),
        ("run_id", None),
        ("shard", {"index": "1", "count": 4, "cells": 1, "of": 4, "whole": "d"}),
        ("merged", {"of": True, "missing": []}),
    ],
)
def test_an_entry_of_run_json_of_another_type_is_named(name, value, run):
    write_sealed(run / "run.json", {"schema_version": SCHEMA_VERSION, name: value})
    with pytest.raises(RunFolderError, match=rf"run\.json: {name}.*, but should be .*restore it"):
        record.read_run(run)


@pytest.mark.parametrize("lost", ["index", "count", "cells", "of", "whole"])
def test_a_shard_that_does_not_say_which_is_refused(lost, run):
    part = {"index": 1, "count": 4, "cells": 1, "of": 4, "whole": "d"}
    known = {"schema_version": SCHEMA_VERSION, "shard": part}
    write_sealed(run / "run.json", known)
    assert record.read_run(run) == known
    del part[lost]
    write_sealed(run / "run.json", known)
    with pytest.raises(RunFolderError, match=f"does not say its {lost}"):
        record.read_run(run)


def test_a_version_that_is_none_is_refused(run):
    known = {"schema_version": SCHEMA_VERSION, "packages": {"torch": "2.13.0", "numpy": None}}
    write_sealed(run / "run.json", known)
    assert list(record.read_versions(run)) == ["torch"]
    write_sealed(run / "run.json", known | {"packages": {"torch": "two"}})
    with pytest.raises(RunFolderError, match="names no version"):
        record.read_versions(run)


def test_a_selection_on_an_axis_that_is_none_is_refused():
    from harness.selection import selection_of

    assert selection_of({"selection": {"family": ["gpt2"]}}).family == ("gpt2",)
    with pytest.raises(HarnessError, match="selection has colour"):
        selection_of({"selection": {"colour": ["red"]}})


def test_the_columns_are_those_that_were_packed_before(packed):
    """A seal is in the footer, and no column."""
    for kind in KINDS:
        names = pq.read_schema(packed / kind / PACKED).names
        assert names == [column.name for column in COLUMNS[kind]]
