"""A run's summary: made of its parts, and made anew when these are others."""

import contextlib
import shutil

import pyarrow.parquet as pq
import pytest

import harness
from harness.errors import RunFolderError
from harness.history.summaries import FILE, summary_of
from harness.record import COLUMNS, SCHEMA_VERSION, read_run, write_json, write_part


def cell(name, family):
    row = dict.fromkeys((column.name for column in COLUMNS["cells"]), None)
    row |= {name: 0 for name in row if name.startswith(("sites_", "n_", "routing", "unjudged"))}
    row |= {"run_id": "a", "cell_id": name, "family": family, "variant": "v", "missing_sites": ""}
    row |= {"checkpoint": "synthetic", "port": "bridge", "loading_mode": "bridge", "dtype": "exact"}
    row |= {"device": "cpu", "verdict": "pass", "seconds": 0.1, "peak_rss_mb": 1.0}
    return {**row, "worst_rel_l2": 1e-16, "worst_error_ratio": 0.0, "checkpoint_digest": "d"}


@pytest.fixture
def run(tmp_path):
    write_json(tmp_path / "run.json", {"schema_version": SCHEMA_VERSION})
    for name, family in (("b", "llama"), ("a", "gpt2")):
        write_part(tmp_path, "cells", name, [cell(name, family)])
    return tmp_path


def families(run):
    return pq.read_table(summary_of(run))["family"].to_pylist()


def test_it_holds_every_cell_sorted_by_family(run):
    assert families(run) == ["gpt2", "llama"]


def test_it_is_read_again_as_long_as_the_parts_are_the_same(run):
    made = summary_of(run).stat().st_mtime_ns
    assert summary_of(run).stat().st_mtime_ns == made


def test_a_part_that_came_since_is_in_it(run):
    assert len(families(run)) == 2
    write_part(run, "cells", "c", [cell("c", "bloom")])
    assert families(run) == ["bloom", "gpt2", "llama"]


def test_one_that_cannot_be_read_is_made_again(run):
    summary_of(run).write_bytes(b"PAR1")
    assert families(run) == ["gpt2", "llama"]
    assert (run / FILE).stat().st_size > 100


def test_a_run_without_a_cell_has_none(tmp_path):
    write_json(tmp_path / "run.json", {"schema_version": SCHEMA_VERSION})
    with pytest.raises(RunFolderError, match="no cell of it finished"):
        summary_of(tmp_path)


@pytest.fixture
def night(run):
    """Give the same run in a folder of runs."""
    there = shutil.copytree(run, run / "runs" / "night")
    write_json(there / "run.json", {**read_run(run), "started": "2026-01-01T03:17:00+00:00"})
    return there


def rows(night):
    return repr(harness.read_history(night.parent).to_dict("records"))


def test_a_bit_that_turned_in_a_summary_is_made_good_or_told(night):
    file = summary_of(night)
    content, before = file.read_bytes(), rows(night)
    for bit in range(0, len(content) * 8, 331):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        with contextlib.suppress(RunFolderError):
            assert rows(night) == before


def test_a_damaged_page_of_a_summary_is_told_by_its_name(night):
    file = summary_of(night)
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"summary\.parquet cannot be read .*made again"):
        rows(night)


def test_a_run_that_lost_its_run_json_is_left_out_by_name(night):
    other = shutil.copytree(night, night.with_name("other"))
    assert harness.read_history(night.parent).attrs["left_out"] == {}
    (other / "run.json").unlink()
    assert "is not a run" in harness.read_history(night.parent).attrs["left_out"]["other"]
