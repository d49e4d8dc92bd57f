import pytest
import torch

from harness.measure import shelf
from harness.measure.shelf import Shelf

SMALL = {"embed": torch.arange(6, dtype=torch.float64).reshape(2, 3)}
LARGE = {"logits": torch.arange(40, dtype=torch.bfloat16).reshape(4, 10).T}


@pytest.fixture(autouse=True)
def few_bytes(monkeypatch):
    monkeypatch.setattr(shelf, "IN_MEMORY", 64)


def test_small_ones_are_kept_as_they_are():
    kept = Shelf()
    kept.offer("a", SMALL)
    assert kept.get("a") is SMALL
    assert kept.get("b") is None


def test_a_large_one_is_let_go_the_first_time_and_kept_on_disk_the_second():
    kept = Shelf()
    kept.offer("a", LARGE)
    assert kept.get("a") is None
    kept.offer("a", LARGE)
    (found,) = kept.get("a").items()
    assert found[0] == "logits"
    assert found[1].dtype == torch.bfloat16
    assert torch.equal(found[1], LARGE["logits"])


def test_what_does_not_fit_the_disk_is_run_again(monkeypatch):
    monkeypatch.setattr(shelf, "ON_DISK", 100)
    kept = Shelf()
    for _ in range(2):
        kept.offer("a", LARGE)
        kept.offer("b", LARGE)
    assert kept.get("a") is not None
    assert kept.get("b") is None


def test_what_is_let_go_leaves_no_file():
    kept = Shelf()
    for _ in range(2):
        kept.offer("a", LARGE)
    folder = kept._folder
    assert len(list(folder.iterdir())) == 1
    kept.clear()
    assert (kept.get("a"), list(folder.iterdir())) == (None, [])
    del kept
    assert not folder.exists()


def test_each_prompt_is_counted_by_itself():
    kept = Shelf()
    kept.offer("a", LARGE)
    kept.offer("b", LARGE)
    assert (kept.get("a"), kept.get("b")) == (None, None)
