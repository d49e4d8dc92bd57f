"""The cache over a year of nights: bounded, and nothing goes that is used."""

import datetime as dt
import gc
import os
import subprocess
import sys
import tracemalloc

import pytest
from typer.testing import CliRunner

from harness import cache
from harness.cli import app
from harness.errors import UsageError
from harness.models.checkpoints.folder import cached
from harness.pruning import chosen, kept, prune

NOW = dt.datetime(2026, 7, 1, tzinfo=dt.timezone.utc)
KB = 1000
FEW_KB = 20 * KB


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    for kind in ("checkpoints", "environments"):
        cache.stop_using(kind)


def make(name, *, used=NOW, size=KB):
    """Make a checkpoint in the cache that was used at a time."""
    found = cached(name, lambda folder: (folder / "config.json").write_bytes(b" " * size))
    os.utime(found.path / "sha256.json", (used.timestamp(), used.timestamp()))
    cache.stop_using("checkpoints")
    return found.path


def make_environment(name, *, used=NOW):
    """Make what looks like an environment, of which a file is uv's too."""
    folder = cache.folder_of("environments") / name
    cache.stop_using("environments")
    folder.mkdir()
    (folder / "own").write_bytes(b" " * KB)
    (folder.parent / ".uv").write_bytes(b" " * FEW_KB)
    os.link(folder.parent / ".uv", folder / "shared")
    (folder / "environment.json").write_text('{"requirements": ["transformers==5.9.0"]}')
    os.utime(folder / "environment.json", (used.timestamp(), used.timestamp()))
    return folder


def days_ago(number):
    return NOW - dt.timedelta(days=number)


def names(things):
    return [each.path.name for each in things]


def going(**bounds):
    return names(chosen(kept(), now=NOW, **bounds))


def test_it_says_what_lies_there_with_its_own_bytes_and_last_use():
    make("a-model", used=days_ago(2))
    make_environment("key", used=days_ago(3))
    environment, checkpoint = kept()
    assert (environment.words, checkpoint.words) == ("transformers==5.9.0", "a-model")
    assert environment.used == days_ago(3)
    assert KB <= environment.size < 2 * KB
    assert KB <= checkpoint.size < 2 * KB


def test_what_was_not_used_for_so_long_goes():
    for number in (1, 29, 31, 400):
        make(f"used-{number}", used=days_ago(number))
    assert going(older_than=30) == ["used-400", "used-31"]


def test_the_least_recently_used_go_until_the_rest_is_small_enough():
    for number in (3, 1, 4, 2):
        make(f"used-{number}", used=days_ago(number), size=FEW_KB)
    assert going(max_gb=2.5 * FEW_KB / 1e9) == ["used-4", "used-3"]
    assert going(max_gb=1) == []
    assert going(max_gb=0) == ["used-4", "used-3", "used-2", "used-1"]
    assert going(older_than=3.5, max_gb=3.5 * FEW_KB / 1e9) == ["used-4"]


@pytest.mark.parametrize("bounds", [{}, {"older_than": -1.0}, {"max_gb": float("nan")}])
def test_no_bound_and_one_that_is_none_are_refused(bounds):
    with pytest.raises(UsageError, match="next: give"):
        chosen([], now=NOW, **bounds)


def test_opening_a_checkpoint_counts_as_using_it():
    make("old", used=days_ago(100))
    cached("old", lambda _: pytest.fail("made a second time"))
    assert kept()[0].used > days_ago(100)


def test_nothing_goes_while_this_or_another_process_uses_it(own_cache):
    path = make("old", used=days_ago(100))
    waiting = "import sys; from harness.cache import folder_of; folder_of('checkpoints')"
    with subprocess.Popen(
        [sys.executable, "-c", f"{waiting}; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "HARNESS_CACHE": str(own_cache)},
    ) as other:
        other.stdout.readline()
        assert prune(kept()).busy == ("checkpoints",)
        assert path.is_dir()
        other.kill()
    assert names(prune(kept()).removed) == ["old"]
    assert not path.exists()


def test_what_was_used_since_it_was_chosen_stays():
    path = make("old", used=days_ago(100))
    things = kept()
    make("old")
    assert prune(things).removed == ()
    assert path.is_dir()


def test_what_killed_makers_left_goes_and_a_lock_with_its_thing(own_cache):
    make("old", used=days_ago(100))
    (own_cache / "checkpoints/.half-x1y2").mkdir()
    prune(kept())
    assert [path.name for path in (own_cache / "checkpoints").iterdir()] == [".in-use"]


def test_the_command_says_what_would_go_and_what_went():
    path = make("old", used=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc))
    for words, is_left in ((["--dry-run"], True), ([], False)):
        said = CliRunner().invoke(app, ["cache", "prune", "--older-than", "30", *words])
        assert said.exit_code == 0
        assert "checkpoints: old (0.0 MB, last used 2020-01-01)" in said.output
        assert path.exists() is is_left
    assert "0 things" in CliRunner().invoke(app, ["cache", "list"]).output


def test_an_empty_cache_has_nothing_to_remove():
    said = CliRunner().invoke(app, ["cache", "prune", "--max-gb", "1"])
    assert (said.exit_code, said.output) == (0, "0 removed, 0.00 GB\n")


def night(number):
    """Use a cache as a nightly does: what is asked each night, and what that night's release has.

    A month later somebody asks for the first night's once more.
    """
    today = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(days=number)
    for name in ("each-night", f"release-{number // 7}", "once-more" if number % 30 == 0 else ""):
        if name:
            make(name, used=today, size=FEW_KB)
    if number % 7 == 0:
        make_environment(f"env{number}", used=today)
        things = kept()
        prune(chosen(things, now=today, older_than=30, max_gb=10 * FEW_KB / 1e9))


def test_a_year_of_nights_leaves_a_small_cache_with_what_is_used_and_takes_no_memory(own_cache):
    tracemalloc.start()
    sizes = []
    for number in range(365):
        night(number)
        if number in {99, 364}:
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    left = kept()
    assert {"each-night", "once-more", "release-52", "env364"} <= set(names(left))
    assert len(left) < 20
    assert sum(each.size for each in left) < 12 * FEW_KB
    assert sum(1 for _ in (own_cache / "checkpoints").iterdir()) < 30
    assert sizes[1] - sizes[0] < 200 * KB
