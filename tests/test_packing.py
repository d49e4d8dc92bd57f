"""A packed run is the run: every row, once, whatever was killed when, and damage is told."""

import contextlib
import json
import shutil
from itertools import count

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_rows import KINDS as ALL_KINDS
from hand_rows import READERS, plain_row, rows_of, unpack
from hypothesis import given
from hypothesis import strategies as st

from harness import record
from harness.errors import RunFolderError, UsageError
from harness.record import COLUMNS, KINDS, PACKED, SCHEMA_VERSION, pack, write_json, write_part
from harness.record import packed as packed_files
from harness.record import packing as steps
from harness.record.columns import AXES_OF

FAMILIES, MODES = ("gpt2", "llama"), ("bridge", "compat")
OF_CELLS = ("deltas", "fingerprints", "positions", "prompts")
UNFINISHED = "opt-default.bridge.exact"


def name_of(family, mode, variant="default"):
    return f"{family}-{variant}.{mode}.exact"


def row_of(kind, family, mode, **changes):
    axes = {"cell_id": name_of(family, mode), "family": family, "loading_mode": mode}
    known = {name: value for name, value in axes.items() if name in AXES_OF[kind]}
    return plain_row(kind, **known, **changes)


def write_cell(run, family, mode, *, number=2, finished=True, **changes):
    for kind in KINDS:
        if kind == "cells" and not finished:
            continue
        rows = [row_of(kind, family, mode, **changes) for _ in range(number)]
        write_part(run, kind, name_of(family, mode), rows)


@pytest.fixture
def run(tmp_path):
    """Give a run of four cells, a reference's fingerprints, and a cell that did not finish."""
    folder = tmp_path / "some-run"
    write_json(folder / "run.json", {"schema_version": SCHEMA_VERSION})
    for family in FAMILIES:
        for mode in MODES:
            write_cell(folder, family, mode)
    reference = row_of("fingerprints", "gpt2", "bridge", side="reference")
    reference |= {"cell_id": None, "loading_mode": None}
    write_part(folder, "fingerprints", "gpt2-default.exact.reference", [reference])
    return folder


@pytest.fixture
def packed(run):
    pack(run)
    return run


def frames_of(run):
    return {kind: READERS[kind](run) for kind in ALL_KINDS}


def assert_same(one, two):
    for kind in ALL_KINDS:
        pd.testing.assert_frame_equal(one[kind], two[kind], check_categorical=False)


def in_any_order(frames):
    return {kind: sorted(map(repr, frame.to_dict("records"))) for kind, frame in frames.items()}


def files_in(run):
    return {str(file.relative_to(run)) for file in run.glob("*/*.parquet")}


def test_a_packed_run_is_one_file_per_kind_with_the_same_rows_in_the_same_order(run):
    before = frames_of(run)
    assert pack(run) == 6 * 4 + 1
    assert files_in(run) == {f"{kind}/{PACKED}" for kind in ALL_KINDS}
    assert_same(frames_of(run), before)


@given(data=st.data())
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_any_value_is_after_packing_what_it_was_bit_for_bit(kind, data, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    write_json(run / "run.json", {"schema_version": SCHEMA_VERSION})
    rows = data.draw(st.lists(rows_of(kind), min_size=1, max_size=3))
    own = kind if kind == "cells" else "cells"
    write_part(run, own, "a", [plain_row("cells", cell_id="a")])
    write_part(run, kind, "a", rows)
    before = pq.read_table(run / kind / "a.parquet")
    pack(run)
    after = pq.read_table(run / kind / PACKED)
    assert after.schema.equals(before.schema)
    assert after.to_pylist() == before.to_pylist() == rows


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_plain_pandas_reads_a_packed_folder_as_it_read_the_parts(kind, run):
    before = pd.read_parquet(run / kind)
    pack(run)
    after = pd.read_parquet(run / kind)
    assert list(after.columns) == list(before.columns)
    assert after.dtypes.astype(str).tolist() == before.dtypes.astype(str).tolist()
    assert in_any_order({kind: after}) == in_any_order({kind: before})


def test_packing_twice_is_packing_once(packed):
    before = {file: (packed / file).read_bytes() for file in files_in(packed)}
    assert pack(packed) == 0
    assert {file: (packed / file).read_bytes() for file in files_in(packed)} == before


def test_a_packed_run_made_one_of_parts_again_is_byte_for_byte_what_it_was(run):
    before = {file: (run / file).read_bytes() for file in files_in(run)}
    pack(run)
    unpack(run)
    assert {file: (run / file).read_bytes() for file in files_in(run)} == before


def test_cells_that_come_later_are_packed_to_those_before(packed):
    write_cell(packed, "gemma", "bridge")
    before = in_any_order(frames_of(packed))
    assert pack(packed) == 6
    assert files_in(packed) == {f"{kind}/{PACKED}" for kind in ALL_KINDS}
    assert in_any_order(frames_of(packed)) == before
    assert list(record.read_cells(packed).family.unique()) == ["gemma", "gpt2", "llama"]
    assert len(record.finished_cells(packed)) == 5


def test_a_part_written_again_takes_the_place_of_its_packed_rows(packed):
    write_part(packed, "deltas", name_of("gpt2", "bridge"), [row_of("deltas", "gpt2", "bridge")])
    for _ in range(2):
        modes = record.read_deltas(packed, family="gpt2").loading_mode
        assert modes.value_counts().to_dict() == {"bridge": 1, "compat": 2}
        pack(packed)


def test_what_an_unfinished_cell_wrote_is_not_packed_and_not_lost(run):
    write_cell(run, "opt", "bridge", finished=False)
    before = in_any_order(frames_of(run))
    pack(run)
    assert files_in(run) == {f"{kind}/{PACKED}" for kind in ALL_KINDS} | {
        f"{kind}/{UNFINISHED}.parquet" for kind in OF_CELLS
    }
    assert in_any_order(frames_of(run)) == before
    assert UNFINISHED not in record.finished_cells(run)


def test_of_an_unfinished_cell_only_what_it_wrote_at_last_is_packed(run):
    write_cell(run, "opt", "bridge", finished=False, number=3)
    pack(run)
    write_cell(run, "opt", "bridge", number=1)
    pack(run)
    assert len(record.read_deltas(run, family="opt")) == 1


class Killed(BaseException):
    """The power went."""


def killing(monkeypatch, where, step):
    """Let the process be killed at the n-th call of something, before it is done."""
    owner, name = where
    real, calls = getattr(owner, name), count(1)

    def call(*arguments, **named):
        if next(calls) == step:
            raise Killed
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, call)


STEPS = {
    "a part is read": (steps, "portion_of"),
    "packed rows are written": (packed_files, "_write_group"),
    "the packed file is on the disk": (packed_files, "_sync"),
    "the packed file is there": (steps, "open_packed"),
    "a kind is begun": (steps, "files_of"),
}


@pytest.mark.parametrize("again", [False, True], ids=["at first", "to packed rows"])
@pytest.mark.parametrize("place", range(1, 13, 2))
@pytest.mark.parametrize("step", STEPS)
def test_a_packing_that_is_killed_neither_loses_nor_doubles_a_row(
    step, place, again, run, monkeypatch
):
    if again:
        pack(run)
        write_cell(run, "gemma", "bridge")
        write_cell(run, "llama", "bridge", number=3)
    before = in_any_order(frames_of(run))
    with monkeypatch.context() as patch:
        killing(patch, STEPS[step], place)
        try:
            pack(run)
        except Killed:
            pass
        else:
            assert place > 6, "it was to be killed"
    assert in_any_order(frames_of(run)) == before
    pack(run)
    assert in_any_order(frames_of(run)) == before
    assert files_in(run) == {f"{kind}/{PACKED}" for kind in ALL_KINDS}
    assert not list(run.glob("*/.packed*"))


@pytest.mark.parametrize("number", range(25))
def test_a_packing_that_is_killed_between_two_removals_doubles_no_row(number, run):
    before, kept = in_any_order(frames_of(run)), run.with_name("kept")
    shutil.copytree(run, kept)
    pack(run)
    for file in sorted(files_in(kept))[number:]:
        shutil.copyfile(kept / file, run / file)
    assert in_any_order(frames_of(run)) == before
    assert len(record.finished_cells(run)) == 4
    pack(run)
    assert in_any_order(frames_of(run)) == before


def test_what_a_killed_packing_left_is_no_row_and_is_removed(run):
    (run / "deltas" / f".{PACKED}.4711").write_bytes(b"PAR1 and then the power went")
    before = frames_of(run)
    pack(run)
    assert_same(frames_of(run), before)
    assert not list(run.glob("*/.packed*"))


def test_a_run_that_another_process_packs_is_not_packed_twice_at_once(run):
    with (
        steps.FileLock(run / ".packing"),
        pytest.raises(RunFolderError, match="being packed by another process"),
    ):
        pack(run)


@pytest.mark.parametrize("is_before", [False, True])
def test_a_part_that_is_packed_while_it_is_read_is_found(is_before, run, monkeypatch):
    before, listed = in_any_order(frames_of(run)), record.reading.files_of
    calls = count()

    def late(folder, kind):
        is_first = next(calls) == 0
        if is_first and is_before:
            pack(run)
        files = listed(folder, kind)
        if is_first and not is_before:
            pack(run)
        return files

    monkeypatch.setattr(record.reading, "files_of", late)
    assert in_any_order({"deltas": record.read_deltas(run)})["deltas"] == before["deltas"]


# Damage is told by its name.


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("left", [0, 4, -9, -400])
def test_a_truncated_packed_file_is_named(kind, left, packed):
    file = packed / kind / PACKED
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(RunFolderError, match=rf"{kind}/{PACKED} cannot be read"):
        READERS[kind](packed)


def test_a_bit_that_turned_is_told_where_parquet_itself_would_give_another_number(packed):
    file = packed / "deltas" / PACKED
    content, rows = file.read_bytes(), pq.ParquetFile(file).read(["rel_l2"])
    metadata = pq.ParquetFile(file).metadata.row_group(0)
    place = pq.ParquetFile(file).schema_arrow.names.index("rel_l2")
    column = metadata.column(place)
    start = column.dictionary_page_offset or column.data_page_offset
    silent = 0
    for byte in range(start, start + column.total_compressed_size):
        turned = bytearray(content)
        turned[byte] ^= 1
        file.write_bytes(turned)
        try:
            silent += pq.ParquetFile(file).read(["rel_l2"]) != rows
        except (OSError, pa.ArrowException):
            continue
        with contextlib.suppress(RunFolderError):
            assert record.read_deltas(packed, columns=["rel_l2"]).rel_l2.tolist() == [0.5] * 8
    assert silent


def rewritten(file, table, **known):
    """Write a packed file anew from a table, with its footer but for what is given."""
    kept = pq.ParquetFile(file).metadata.metadata
    with pq.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table)
        footer = {key: value for key, value in kept.items() if key in {b"parts", b"packed_kinds"}}
        writer.add_key_value_metadata(footer | known)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_packed_file_without_one_of_the_columns_is_named(kind, packed):
    file = packed / kind / PACKED
    rewritten(file, pq.read_table(file).drop_columns(["run_id"]))
    with pytest.raises(RunFolderError, match=rf"{kind}/{PACKED}: .*absent columns \['run_id'\]"):
        READERS[kind](packed)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("version", [b"3", None])
def test_a_packed_file_of_another_schema_version_is_named(kind, version, packed):
    file = packed / kind / PACKED
    known = {} if version is None else {b"schema_version": version}
    rewritten(file, pq.read_table(file).replace_schema_metadata(known))
    told = "none" if version is None else version.decode()
    with pytest.raises(RunFolderError, match=rf"{kind}/{PACKED}: schema_version={told}, but"):
        READERS[kind](packed)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_part_of_another_schema_version_is_named(kind, run):
    (file, *_) = sorted((run / kind).glob("*.parquet"))
    pq.write_table(pq.read_table(file).replace_schema_metadata({b"schema_version": b"3"}), file)
    with pytest.raises(RunFolderError, match=rf"{file.name}: schema_version=3, but should be"):
        READERS[kind](run)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_packed_file_with_fewer_rows_than_its_parts_is_named(kind, packed):
    file = packed / kind / PACKED
    rewritten(file, pq.read_table(file).slice(1))
    with pytest.raises(RunFolderError, match=rf"{kind}/{PACKED} cannot be read \(it has . rows"):
        READERS[kind](packed)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_file_under_the_name_of_a_packed_one_is_not_believed(kind, run):
    pq.write_table(pq.read_table(run / kind), run / kind / PACKED)
    with pytest.raises(RunFolderError, match=rf"{kind}/{PACKED} cannot be read"):
        READERS[kind](run)


@pytest.mark.parametrize("kind", OF_CELLS)
def test_packed_rows_of_a_cell_that_cells_lack_are_named(kind, packed):
    """As after `cells/` of an older copy was put back."""
    (packed / "cells" / PACKED).unlink()
    write_part(packed, "cells", name_of("gpt2", "bridge"), [plain_row("cells")])
    with pytest.raises(RunFolderError, match=rf"{kind}/{PACKED} has rows of 3 cells that cells/"):
        READERS[kind](packed)


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind != "cells"])
def test_a_packed_file_that_is_gone_is_missed(kind, packed):
    (packed / kind / PACKED).unlink()
    with pytest.raises(RunFolderError, match=rf"{kind}/{PACKED} is gone"):
        READERS[kind](packed)


def test_a_run_without_a_finished_cell_has_nothing_to_pack(tmp_path):
    write_json(tmp_path / "run.json", {"schema_version": SCHEMA_VERSION})
    write_cell(tmp_path, "opt", "bridge", finished=False)
    pack(tmp_path)
    assert record.finished_cells(tmp_path) == frozenset()
    with pytest.raises(RunFolderError, match="no cell of it finished"):
        record.read_cells(tmp_path)


def test_what_is_no_run_is_not_packed(tmp_path):
    with pytest.raises(RunFolderError, match="is not a run"):
        pack(tmp_path)


# What is asked for is read, and nothing else.


@pytest.fixture(params=["in parts", "packed", "both"])
def any_run(request, run):
    """Give the same rows, unpacked, packed, and half of each."""
    if request.param != "in parts":
        pack(run)
    if request.param == "both":
        write_cell(run, "llama", "compat")
        write_cell(run, "gpt2", "compat")
    return run


@pytest.mark.parametrize("kind", ["cells", "deltas", "controls", "fingerprints"])
def test_a_filter_gives_the_rows_that_pandas_would_keep(kind, any_run):
    every = READERS[kind](any_run)
    found = READERS[kind](any_run, family="llama", loading_mode=["bridge", "other"])
    kept = every[(every.family == "llama") & (every.loading_mode == "bridge")]
    assert len(found) == 2
    assert in_any_order({kind: found}) == in_any_order({kind: kept})
    assert list(found.family.cat.categories) == ["llama"]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_filter_that_nothing_fits_gives_no_row_and_every_column(kind, any_run):
    for names in ("nowhere", ()):
        found = READERS[kind](any_run, cell_id=names)
        assert found.empty
        assert list(found.columns) == [column.name for column in COLUMNS[kind]]
        assert found.dtypes.astype(str).tolist() == [
            str(dtype) for dtype in READERS[kind](any_run).dtypes
        ]


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind != "controls"])
def test_one_cell_is_read_by_its_name(kind, any_run):
    name = name_of("llama", "bridge")
    word = "part" if kind == "fingerprints" else "cell"
    assert set(READERS[kind](any_run, **{word: name}).cell_id) == {name}
    assert set(READERS[kind](any_run, **{word: "llama*"}).cell_id.dropna()) == {
        name_of("llama", mode) for mode in MODES
    }


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_columns_are_those_asked_for_in_that_order(kind, any_run):
    found = READERS[kind](any_run, columns=["cell_id", "run_id"], run_id="words")
    assert list(found.columns) == ["cell_id", "run_id"]
    assert len(found) == len(READERS[kind](any_run))


def test_an_axis_that_is_none_is_refused_with_those_that_are(any_run):
    with pytest.raises(UsageError, match="deltas cannot be filtered by famly; by run_id, cell_id"):
        record.read_deltas(any_run, famly="llama")
    with pytest.raises(UsageError, match="prompts cannot be filtered by family; by run_id, cell_"):
        record.read_prompts(any_run, family="llama")


@pytest.mark.parametrize("names", [None, 7, ["llama", None]])
def test_a_filter_by_what_is_no_name_is_refused(names, any_run):
    with pytest.raises((UsageError, TypeError), match=r"family=|not iterable"):
        record.read_deltas(any_run, family=names)


def test_a_column_that_is_none_is_refused_with_those_that_are(any_run):
    with pytest.raises(UsageError, match="has no column colour; it has run_id, cell_id"):
        record.read_deltas(any_run, columns=["colour"])


def test_a_filter_reads_only_the_groups_of_its_family_and_mode(run, monkeypatch):
    monkeypatch.setattr(packed_files, "_GROUP", 2)
    pack(run)
    opened = packed_files.open_packed(run, "deltas")
    assert opened.opened.metadata.num_row_groups == 4
    axes = {"family": ["llama"], "loading_mode": ["bridge"]}
    assert opened.groups_that_may_hold(axes) == [2]
    read = []
    real = packed_files.Packed.read
    monkeypatch.setattr(
        packed_files.Packed,
        "read",
        lambda self, groups, columns: read.append((groups, columns)) or real(self, groups, columns),
    )
    record.read_deltas(run, columns=["site"], **{name: names[0] for name, names in axes.items()})
    assert read == [([2], ["site", "family", "loading_mode"])]


def test_the_rows_of_a_part_are_found_across_groups(run, monkeypatch):
    monkeypatch.setattr(packed_files, "_GROUP", 1)
    monkeypatch.setattr(packed_files, "_LARGEST", 3)
    write_cell(run, "gemma", "bridge", number=10)
    before = frames_of(run)
    pack(run)
    assert packed_files.open_packed(run, "deltas").opened.metadata.num_row_groups > 6
    assert_same(frames_of(run), before)
    assert len(record.read_deltas(run, cell=name_of("gemma", "bridge"))) == 10
    write_cell(run, "opt", "bridge")
    pack(run)
    assert len(record.read_deltas(run, family="gemma")) == 10


def test_a_group_holds_whole_parts_and_no_more_rows_than_it_may(run, monkeypatch):
    monkeypatch.setattr(packed_files, "_LARGEST", 5)
    pack(run)
    groups = packed_files.open_packed(run, "deltas").opened.metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [4, 4]


def test_a_run_has_a_part_whether_it_is_packed_or_not(any_run):
    assert record.has_part(any_run, "fingerprints", "gpt2-default.exact.reference")
    assert not record.has_part(any_run, "fingerprints", "opt-default.exact.reference")


def test_the_manifest_says_where_each_part_is(packed):
    file = packed_files.open_packed(packed, "deltas")
    assert [*file.parts] == [name_of(family, mode) for family in FAMILIES for mode in MODES]
    assert [file.begins[place] for place in file.parts.values()] == [0, 2, 4, 6]
    cells = packed_files.open_packed(packed, "cells")
    assert cells.kinds == set(ALL_KINDS) - {"cells"}
    assert json.loads((packed / "run.json").read_text()) == {"schema_version": SCHEMA_VERSION}
