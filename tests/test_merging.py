import json
import shutil

import pandas as pd
import pytest

from harness.errors import RunFolderError, UsageError
from harness.judge.baseline import accept
from harness.judge.controls import uncaught
from harness.merging import merge
from harness.record import (
    COLUMNS,
    PACKED,
    SCHEMA_VERSION,
    pack,
    read_cells,
    read_controls,
    read_deltas,
    read_run,
    write_json,
    write_part,
)
from harness.report.words import print_run

CELLS = {1: ("gpt2", "llama"), 2: ("opt",), 3: ("gemma",)}
GREEN = {"verdict": "pass", "reason": None, "first_site": None, "first_prompt_id": None}


def row_of(kind, **known):
    """Give a row in which every column has something: what is known, else zeros and words."""
    row = {}
    for column in COLUMNS[kind]:
        text = 0.0 if "float" in str(column.type) or "double" in str(column.type) else 0
        plain = "x" if "string" in str(column.type) else text
        row[column.name] = known.get(column.name, None if column.missing else plain)
    return row


def cell_row(family, run_id, **more):
    axes = {"cell_id": f"{family}-default.bridge.exact", "family": family, "variant": "default"}
    axes |= {"checkpoint": "synthetic", "port": "bridge", "loading_mode": "bridge"}
    known = {**axes, "dtype": "exact", "device": "cpu", "run_id": run_id, "seconds": 1.0, **GREEN}
    return row_of("cells", **{**known, **more})


def delta_row(family, run_id):
    axes = {"cell_id": f"{family}-default.bridge.exact", "family": family, "run_id": run_id}
    return row_of("deltas", **axes, passed_through=False)


def write_cell(run, family, **more):
    name = f"{family}-default.bridge.exact"
    write_part(run, "cells", name, [cell_row(family, run.name, **more)])
    control = {"run_id": run.name, "cell_id": name, "family": family, "port": "bridge"}
    control |= {"loading_mode": "bridge", "dtype": "exact", "fault": "f", "words": "w"}
    write_part(run, "controls", name, [row_of("controls", **control, caught=True)])


@pytest.fixture
def shards(tmp_path):
    """Give three shards of a run of four planted cells."""
    found = []
    for index, families in CELLS.items():
        run = tmp_path / f"s{index}"
        part = {"index": index, "count": 3, "cells": len(families), "of": 4, "whole": "d"}
        described = {"schema_version": SCHEMA_VERSION, "run_id": run.name, "shard": part}
        described |= {"selection": {}, "plan": {"drawn": 3}, "commit": "c", "python": "3.11"}
        described |= {"packages": {"torch": "2.13", "numpy": "2"}, "cpu": f"cpu {index}"}
        write_json(run / "run.json", {**described, "started": f"2026-01-0{index}"})
        for family in families:
            write_cell(run, family)
        found.append(run)
    return found


def change(run, **more):
    described = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**described, **more})


def said_of(run):
    lines = []
    print_run(run, write=lines.append)
    return "\n".join(lines)


def test_shards_become_one_run_with_every_cell_and_control(shards, tmp_path):
    merge(shards, tmp_path / "all", partial=False)
    cells, controls = read_cells(tmp_path / "all"), read_controls(tmp_path / "all")
    assert sorted(cells.family) == ["gemma", "gpt2", "llama", "opt"] == sorted(controls.family)
    assert uncaught(cells, controls) == []


def test_packed_shards_and_unpacked_ones_become_the_same_run(shards, tmp_path):
    merge(shards, tmp_path / "one", partial=False)
    for shard in shards[:2]:
        pack(shard)
    merge(shards, tmp_path / "two", partial=False)
    for read in (read_cells, read_controls):
        one, two = read(tmp_path / "one"), read(tmp_path / "two")
        assert len(two) == 4
        pd.testing.assert_frame_equal(one, two, check_categorical=False)
    assert {file.name for file in (tmp_path / "two").glob("*/*.parquet")} == {PACKED}


def test_what_a_cell_wrote_that_did_not_finish_is_not_merged(shards, tmp_path):
    for name in ("opt", "gemma"):  # one that no shard finished, one that another has
        write_part(shards[0], "deltas", f"{name}-default.bridge.exact", [delta_row(name, "s1")])
    merge(shards, tmp_path / "all", partial=False)
    assert read_deltas(tmp_path / "all").empty


def test_a_merged_run_is_printed_as_any_other(shards, tmp_path):
    merge(shards, tmp_path / "all", partial=False)
    said = said_of(tmp_path / "all")
    assert "4 cells: 4 pass" in said
    assert "PARTIAL" not in said
    assert "SHARD" not in said


def test_a_shard_says_that_it_is_one(shards):
    assert "SHARD 1/3: 2 of the 4 cells of the run" in said_of(shards[0])


def test_the_merged_run_knows_its_shards_and_their_machines(shards, tmp_path):
    merge(shards[::-1], tmp_path / "all", partial=False)
    described = read_run(tmp_path / "all")
    assert (described["run_id"], described["started"]) == ("all", "2026-01-01")
    assert [each["cpu"] for each in described["merged"]["shards"]] == ["cpu 1", "cpu 2", "cpu 3"]
    assert described["cpu"] == "cpu 1 | cpu 2 | cpu 3"


def test_nothing_stays_beside_a_merged_run(shards, tmp_path):
    merge(shards, tmp_path / "all", partial=False)
    assert {path.name for path in tmp_path.iterdir()} == {"s1", "s2", "s3", "all"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"commit": "d"}, "commit is 'd', not 'c'"),
        ({"plan": {"drawn": 4}}, "plan.drawn is 4, not 3"),
        ({"packages": {"torch": "2.12", "numpy": "2"}}, "packages.torch is '2.12', not '2.13'"),
        ({"python": "3.12"}, "python is '3.12', not '3.11'"),
        ({"selection": {"family": ["opt"]}}, "selection.family is ['opt'], not None"),
    ],
)
def test_a_shard_of_another_run_is_refused_by_what_differs(shards, tmp_path, more, told):
    change(shards[1], **more)
    with pytest.raises(RunFolderError) as refused:
        merge(shards, tmp_path / "all", partial=True)
    assert "s2, shard 2/3 is not of the same run as s1, shard 1/3" in str(refused.value)
    assert told in str(refused.value)
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize("name", ["count", "of", "whole"])
def test_a_shard_of_another_whole_is_refused(shards, tmp_path, name):
    part = read_run(shards[1])["shard"]
    change(shards[1], shard={**part, name: 9})
    with pytest.raises(RunFolderError, match=f"shard.{name} is 9"):
        merge(shards, tmp_path / "all", partial=True)


def test_a_missing_shard_is_refused_by_its_number(shards, tmp_path):
    with pytest.raises(UsageError, match=r"shard 2/3 is missing\n"):
        merge([shards[0], shards[2]], tmp_path / "all", partial=False)
    assert not (tmp_path / "all").exists()


def test_a_shard_that_did_not_finish_is_refused_by_its_number(shards, tmp_path):
    (shards[0] / "cells" / "llama-default.bridge.exact.parquet").unlink()
    with pytest.raises(UsageError, match="shard 1/3 has 1 of 2 cells"):
        merge(shards, tmp_path / "all", partial=False)


def test_a_partial_merge_says_what_is_missing_and_is_no_baseline(shards, tmp_path):
    merge([shards[0], shards[2]], tmp_path / "all", partial=True)
    assert "PARTIAL: 3 of 4 cells are there; shard 2/3 is missing" in said_of(tmp_path / "all")
    with pytest.raises(UsageError, match="3 of the 4 cells"):
        accept(tmp_path / "all", tmp_path / "baseline", reason="why not")


def test_a_shard_is_no_baseline(shards, tmp_path):
    with pytest.raises(UsageError, match="2 of the 4 cells"):
        accept(shards[0], tmp_path / "baseline", reason="why not")


def test_a_shard_given_twice_is_one(shards, tmp_path):
    shutil.copytree(shards[0], tmp_path / "again")
    merge([*shards, tmp_path / "again"], tmp_path / "all", partial=False)
    assert len(read_cells(tmp_path / "all")) == 4


def test_a_cell_that_took_another_time_is_the_same(shards, tmp_path):
    shutil.copytree(shards[0], tmp_path / "again")
    write_cell(tmp_path / "again", "gpt2", seconds=7.0)
    merge([*shards, tmp_path / "again"], tmp_path / "all", partial=False)
    assert len(read_cells(tmp_path / "all")) == 4


def test_a_cell_that_was_measured_twice_and_differs_is_refused(shards, tmp_path):
    shutil.copytree(shards[0], tmp_path / "again")
    write_cell(tmp_path / "again", "gpt2", verdict="fail", reason="r")
    with pytest.raises(RunFolderError, match=r"gpt2-default.bridge.exact was measured twice"):
        merge([*shards, tmp_path / "again"], tmp_path / "all", partial=False)
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize("packed", [(), (0,), (0, 3)], ids=["in parts", "one packed", "packed"])
def test_a_cell_of_a_packed_shard_that_was_measured_twice_and_differs_is_refused(
    shards, tmp_path, packed
):
    shutil.copytree(shards[0], tmp_path / "again")
    write_cell(tmp_path / "again", "gpt2", verdict="fail", reason="r")
    pieces = [*shards, tmp_path / "again"]
    for place in packed:
        pack(pieces[place])
    with pytest.raises(RunFolderError, match=r"gpt2-default.bridge.exact was measured twice"):
        merge(pieces, tmp_path / "all", partial=False)


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_controls_of_a_cell_the_one_that_was_not_caught_stays(shards, tmp_path, order):
    shutil.copytree(shards[1], tmp_path / "again")
    part = read_controls(shards[1]).to_dict("records")[0]
    row = {**part, "caught": False, "expected_site": None, "first_site": None}
    write_part(tmp_path / "again", "controls", "opt-default.bridge.exact", [row])
    merge([*shards, tmp_path / "again"][::order], tmp_path / "all", partial=False)
    told = uncaught(read_cells(tmp_path / "all"), read_controls(tmp_path / "all"))
    assert len(told) == 1
    assert told[0].startswith("CONTROL NOT CAUGHT in opt-default.bridge.exact")


def test_a_run_that_is_no_shard_is_refused(shards, tmp_path):
    merge(shards, tmp_path / "all", partial=False)
    with pytest.raises(RunFolderError, match="all is no shard"):
        merge([tmp_path / "all"], tmp_path / "more", partial=True)


def test_a_run_is_not_merged_into_another(shards):
    with pytest.raises(RunFolderError, match="is there already"):
        merge(shards, shards[0], partial=False)
