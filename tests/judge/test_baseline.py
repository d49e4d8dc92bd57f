import json
import shutil

import pyarrow.parquet as pq
import pytest
from planting import SDPA, SITE, raising, scaled

from harness.errors import RunFolderError, UsageError
from harness.judge.baseline import DESCRIPTION, TABLES, accept, is_baseline, read_baseline
from harness.judge.gate import gate
from harness.judge.sides import read_side
from harness.record import SCHEMA_VERSION, read_run, read_sealed, write_sealed

IDS = [cell.id for cell in SDPA]


@pytest.fixture(scope="session")
def whole(recorded, tmp_path_factory):
    into = tmp_path_factory.mktemp("baselines") / "default"
    accept(recorded(), into, reason="the first one")
    return into


@pytest.fixture
def accepted(whole, tmp_path):
    """Give a copy of a baseline, to be damaged."""
    shutil.copytree(whole, tmp_path / "default")
    return tmp_path / "default"


def described(folder, **changes):
    write_sealed(folder / DESCRIPTION, {**read_sealed(folder / DESCRIPTION), **changes})


def refused(folder, match):
    with pytest.raises(RunFolderError, match=match) as raised:
        read_side(folder)
    assert "harness baseline accept RUN" in str(raised.value)


def test_a_run_gated_against_the_baseline_made_of_it_is_unchanged(whole, clean):
    found = gate(read_side(whole), clean, IDS)
    assert [cell.verdict for cell in found.cells] == ["unchanged", "unchanged"]
    assert found.exit_code == 0


@pytest.mark.parametrize("side", ["port", "reference"])
@pytest.mark.parametrize("by", [1e-9, 1e-3])
def test_a_baseline_gives_the_verdicts_that_its_run_gives(side, by, whole, clean, measured):
    new = measured(**{side: scaled(by)})
    from_baseline, from_run = (gate(old, new, IDS).cells for old in (read_side(whole), clean))
    for stored, live in zip(from_baseline, from_run, strict=True):
        for name in ("verdict", "worse", "attribution", "nature", "first_site", "prompt"):
            assert getattr(stored, name) == getattr(live, name)
        # A baseline drops the sketch of a port that agrees: what it leaves out is the rounding of
        # float32, 1e-7 of the values, whose share of this drift differs from CPU to CPU.
        assert (stored.drift or 0) == pytest.approx(live.drift or 0, rel=1e-5, abs=1e-6)


def test_what_was_wrong_when_it_was_accepted_is_unchanged(recorded, measured, tmp_path):
    accept(recorded(port=scaled(1e-3)), tmp_path / "default", reason="known")
    found = gate(read_side(tmp_path / "default"), measured(port=scaled(1e-3)), IDS)
    assert [cell.verdict for cell in found.cells] == ["unchanged", "unchanged"]


def test_what_is_wrong_in_another_way_than_accepted_has_moved(recorded, measured, tmp_path):
    accept(recorded(port=scaled(1e-3)), tmp_path / "default", reason="known")
    found = gate(read_side(tmp_path / "default"), measured(port=scaled(-1e-3)), IDS)
    assert [(cell.verdict, cell.first_site) for cell in found.cells] == [("port_moved", SITE)] * 2


def test_a_baseline_says_what_was_accepted_when_and_why(recorded, whole):
    content = read_baseline(whole)[0]
    assert (content["reason"], content["run_id"], content["cells"]) == ("the first one", "a-run", 2)
    run = json.loads((recorded() / "run.json").read_text())
    for name in ("packages", "python", "platform", "cpu", "commit"):
        assert content[name] == run[name]
    assert content["accepted"].endswith("+00:00")


def test_a_baseline_is_a_few_small_files(whole):
    names = {file.name for file in whole.iterdir()}
    assert names == {DESCRIPTION, *(f"{name}.parquet" for name in TABLES)}
    assert sum(file.stat().st_size for file in whole.iterdir()) < 120_000


def test_a_baseline_keeps_sketches_of_oracles_alone(whole):
    prints = read_baseline(whole)[2]
    sketched = prints[prints.sketch.notna()]
    assert set(sketched.dtype) == {"exact"}
    assert set(sketched.side) == {"reference"}
    assert prints.difference_sketch.isna().all()


@pytest.mark.parametrize("reason", ["", "   "])
def test_without_a_reason_nothing_is_accepted(reason, recorded, tmp_path):
    with pytest.raises(UsageError, match="needs a reason; give --reason"):
        accept(recorded(), tmp_path / "default", reason=reason)
    assert not (tmp_path / "default").exists()


def test_a_run_in_which_nothing_was_measured_is_not_accepted(recorded, tmp_path):
    run = recorded(SDPA[:1], port=raising("by zero"))
    with pytest.raises(RunFolderError, match="has no fingerprints"):
        accept(run, tmp_path / "default", reason="a test")
    assert not is_baseline(tmp_path / "default")


@pytest.fixture
def forced(recorded, tmp_path):
    """Give a run that was forced to compare every site as it is."""
    run = shutil.copytree(recorded(), tmp_path / "forced")
    write_sealed(run / "run.json", {**read_run(run), "plan": {"relation": "equal"}})
    return run


def test_a_run_whose_relations_were_forced_is_not_accepted(forced, tmp_path):
    with pytest.raises(UsageError, match=r"forced \(--relation equal\).*without --relation"):
        accept(forced, tmp_path / "default", reason="a test")
    assert not (tmp_path / "default").exists()


def test_a_run_whose_relations_were_forced_is_no_side_of_a_gate(forced):
    with pytest.raises(UsageError, match=r"forced \(--relation equal\)"):
        read_side(forced)


def test_a_folder_that_is_no_run_is_not_accepted(tmp_path):
    with pytest.raises(RunFolderError, match="is not a run"):
        accept(tmp_path, tmp_path / "default", reason="a test")


def test_a_new_baseline_takes_the_place_of_the_old_one(recorded, accepted):
    (accepted / "stray").touch()
    accept(recorded(port=scaled(1e-3)), accepted, reason="the second one")
    assert read_baseline(accepted)[0]["reason"] == "the second one"
    assert not (accepted / "stray").exists()
    assert [file.name for file in accepted.parent.iterdir()] == ["default"]


def test_a_baseline_that_cannot_be_made_leaves_the_old_one(recorded, accepted):
    with pytest.raises(RunFolderError, match="has no fingerprints"):
        accept(recorded(SDPA[:1], port=raising("by zero")), accepted, reason="a test")
    assert read_baseline(accepted)[0]["reason"] == "the first one"


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("left", [-9, 0])
def test_a_truncated_table_is_named(name, left, accepted):
    file = accepted / f"{name}.parquet"
    file.write_bytes(file.read_bytes()[:left])
    refused(accepted, rf"{name}\.parquet is not the one that was accepted \(truncated\?\)")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_was_edited_is_named(name, accepted):
    file = accepted / f"{name}.parquet"
    table = pq.read_table(file)
    pq.write_table(table.slice(0, table.num_rows - 1), file)
    refused(accepted, rf"{name}\.parquet is not the one that was accepted")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_not_there_is_named(name, accepted):
    (accepted / f"{name}.parquet").unlink()
    refused(accepted, rf"{name}\.parquet cannot be read")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_none_though_it_is_the_accepted_one_is_named(name, accepted):
    from harness.judge.baseline import _sha256

    file = accepted / f"{name}.parquet"
    file.write_bytes(b"PAR1 and then the power went")
    sums = {table: _sha256(accepted / f"{table}.parquet") for table in TABLES}
    described(accepted, sha256=sums)
    refused(accepted, rf"{name}\.parquet cannot be read")


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, None])
def test_a_baseline_of_another_schema_is_never_compared(version, accepted):
    described(accepted, schema_version=version)
    refused(accepted, f"baseline of schema {version}, but should be {SCHEMA_VERSION}")


@pytest.mark.parametrize("content", ["", "{", "[]", "7"])
def test_a_description_that_cannot_be_read_is_refused(content, accepted):
    (accepted / DESCRIPTION).write_text(content)
    refused(accepted, "default")


def test_a_description_without_its_sums_is_refused(accepted):
    content = read_sealed(accepted / DESCRIPTION)
    del content["sha256"]
    write_sealed(accepted / DESCRIPTION, content)
    refused(accepted, r"baseline\.json does not say its sha256")


@pytest.mark.parametrize("odd", [[], {"cells": 7}, "x"])
def test_sums_that_are_none_are_refused(odd, accepted):
    described(accepted, sha256=odd)
    refused(accepted, r"cells\.parquet (cannot be read|is not the one)")


@pytest.mark.parametrize("name", ["reason", "run_id", "packages", "sha256"])
def test_a_description_of_which_a_word_was_changed_is_refused(name, accepted):
    file = accepted / DESCRIPTION
    file.write_text(file.read_text().replace(f'"{name}"', f'"{name[:-1]}"'))
    refused(accepted, r"baseline\.json cannot be read \(it is not as it was written")


def test_a_description_without_a_seal_as_older_ones_are_is_read(accepted):
    content = read_sealed(accepted / DESCRIPTION)
    (accepted / DESCRIPTION).write_text(json.dumps(content))
    assert read_baseline(accepted)[0] == content
