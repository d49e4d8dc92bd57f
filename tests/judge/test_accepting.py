"""A baseline that is accepted while others read it, or accept one too: one of them, whole."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from planting import SDPA

from harness.judge import baseline
from harness.judge.baseline import accept, is_baseline, read_baseline

IDS = {cell.id for cell in SDPA}


@pytest.fixture
def accepted(recorded, tmp_path):
    """Give a baseline of a run of two cells."""
    into = tmp_path / "default"
    accept(recorded(), into, reason="0")
    return into


def reasons_read(into, while_):
    """Read a baseline again and again; give the reasons seen."""
    seen = set()
    while not while_.done():
        assert is_baseline(into)
        described, cells, fingerprints, _ = read_baseline(into)
        assert set(cells.cell_id) == IDS
        assert not fingerprints.empty
        seen.add(described["reason"])
    return seen


def accept_often(run, into, reasons):
    for reason in reasons:
        accept(run, into, reason=reason)


def test_a_baseline_that_is_accepted_while_it_is_read_is_read_whole(recorded, accepted):
    with ThreadPoolExecutor() as pool:
        accepting = pool.submit(accept_often, recorded(), accepted, [str(n) for n in range(9)])
        seen = reasons_read(accepted, accepting)
        accepting.result()
    assert len(seen) > 1, "nothing was read meanwhile"
    assert [file.name for file in accepted.parent.iterdir()] == ["default"]


def test_of_two_baselines_accepted_at_once_one_is_there_whole(recorded, accepted, monkeypatch):
    place, often = baseline._take_place, iter([1])

    def taken_meanwhile(new, into):
        if next(often, None):  # the other one comes in between
            monkeypatch.setattr(baseline.os, "getpid", lambda: 1)
            accept(recorded(), into, reason="other")
        place(new, into)

    monkeypatch.setattr(baseline, "_take_place", taken_meanwhile)
    accept(recorded(), accepted, reason="one")
    assert read_baseline(accepted)[0]["reason"] == "one"
    assert [file.name for file in accepted.parent.iterdir()] == ["default"]


def test_a_baseline_that_appears_in_the_emptied_place_is_replaced(recorded, accepted, tmp_path):
    other = tmp_path / "elsewhere" / "other"
    accept(recorded(), other, reason="new")
    rename, once = type(other).rename, iter([1])

    def rename_then_another(self, target):
        done = rename(self, target)
        if self == accepted and next(once, None):
            accept(recorded(), tmp_path / "x", reason="meanwhile")
            rename(tmp_path / "x", accepted)
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(other), "rename", rename_then_another)
        baseline._take_place(other, accepted)
    assert read_baseline(accepted)[0]["reason"] == "new"
