import json
from types import SimpleNamespace

import pytest
from packaging.version import Version

from harness.errors import EnvironmentUnavailable, UsageError
from harness.gating import Plan, Watcher
from harness.judge.gate import Gate
from harness.searching import bisecting, probing
from harness.searching.bisecting import releases_between, run_bisect
from harness.searching.probing import Ground, Search
from harness.selection import Selection

YANKED = {"1.2"}
RELEASES = ["1.0", "1.1", "1.2", "1.3", "1.4rc1", "1.4", "1.9", "1.10", "2.0"]


@pytest.fixture
def index(monkeypatch):
    """Give a port with nine releases, one of them yanked and one early."""

    def releases(package, *, pre, yanked, python):
        found = [release for release in RELEASES if yanked or release not in YANKED]
        assert package == "port"
        assert python is None
        return tuple(map(Version, (each for each in found if pre or "rc" not in each)))

    monkeypatch.setattr(bisecting, "releases_of", releases)


def between(good, bad, *, pre=False, yanked=False, package="port"):
    span = releases_between(package, good, bad, pre=pre, yanked=yanked, python=None)
    return " ".join(map(str, span.history))


@pytest.mark.usefixtures("index")
def test_releases_between_the_ends_are_searched_oldest_first():
    assert between("1.1", "1.10") == "1.1 1.3 1.4 1.9 1.10"
    assert between("1.0", "2.0", pre=True) == "1.0 1.1 1.3 1.4rc1 1.4 1.9 1.10 2.0"
    assert between("1.0", "1.3", yanked=True) == "1.0 1.1 1.2 1.3"


@pytest.mark.usefixtures("index")
def test_an_end_may_be_yanked_or_early():
    assert between("1.2", "1.4rc1") == "1.2 1.3 1.4rc1"


@pytest.mark.usefixtures("index")
def test_a_bad_end_that_is_older_is_searched_backwards():
    assert between("1.4", "1.0") == "1.4 1.3 1.1 1.0"


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("good", "bad", "package", "words"),
    [
        ("1.0", "1.0", "port", "both 1.0"),
        ("1.0", "1.0.0", "port", "both 1.0"),
        ("one", "2.0", "port", "--good 'one' is not a version"),
        ("1.0", "2.0; rm -rf /", "port", "--bad .* is not a version"),
        ("1.0", "1.5", "port", r"(?s)port==1.5 is no release.*1.4rc1, 1.4, 1.9.*nearest"),
        ("1.0", "2.0", "../port", "not the name of a package"),
        ("1.0", "2.0", "", "not the name of a package"),
    ],
)
def test_ends_that_cannot_be_searched_are_refused(good, bad, package, words):
    with pytest.raises(UsageError, match=words):
        between(good, bad, package=package)


@pytest.fixture
def search(index, monkeypatch, tmp_path):
    """Give a function that bisects a planted history, without measuring anything."""
    del index
    heard = []
    planted = set()

    def environment_of(spec, prefer, ground):
        del prefer, ground
        if "1.3" in spec:
            message = "1.3 cannot be built\n  next: name another"
            raise EnvironmentUnavailable(message)
        environment = SimpleNamespace(key=spec, lock="")
        versions = {"port": spec, "transformers": "5" if spec == "port==1.9" else "4"}
        return SimpleNamespace(environment=environment, versions=versions)

    def gated(self, old, new):
        del self
        bad = new in {f"port=={each}" for each in planted} and new != old
        return Gate(baseline=old, candidate=new, cells=(SimpleNamespace(bad=bad),))

    def begin(ground, good, bad, *, names):
        begun = Search(
            ground=ground,
            good=good,
            good_side=names[0],
            bad_run=names[1],
            symptoms=(),
            places={},
            question=tmp_path,
            runs={name: name for name in names},
        )
        begun.note(names[0], "good", "", 1.0, good)
        begun.note(names[1], "bad", "", 0.0, bad)
        return begun

    for room in (bisecting, probing):
        monkeypatch.setattr(room, "subject_for", environment_of)
        monkeypatch.setattr(room, "read_side", lambda _, name: name)
    monkeypatch.setattr(bisecting, "begin_search", begin)
    monkeypatch.setattr(bisecting, "words_for", lambda cell: "worse" if cell.bad else "unchanged")
    monkeypatch.setattr(Search, "measure", lambda *_: None)
    monkeypatch.setattr(Search, "compared", gated)
    monkeypatch.setattr(
        probing,
        "judgement_on",
        lambda gate, *_: SimpleNamespace(
            outcome="bad" if gate.cells[0].bad else "good", words="words"
        ),
    )

    def run(good, bad, *, bad_releases, checks=0):
        planted.update(bad_releases)
        ground = Ground(
            selection=Selection(),
            plan=Plan(out=tmp_path),
            watcher=Watcher(say=heard.append, measured=lambda *_: None),
            heard=heard.append,
        )
        span = releases_between("port", good, bad, pre=False, yanked=False, python=None)
        return run_bisect(span, ground, checks=checks), heard

    return run


def test_the_first_bad_release_is_the_last_line(search, tmp_path):
    found, heard = search("1.4", "2.0", bad_releases={"1.10", "2.0"})
    assert found.line == "first bad: port==1.10 (last good: port==1.9)"
    assert heard[0] == "4 releases of port from 1.4 to 2.0: at most 4 environments"
    assert [(step.name, step.outcome) for step in heard[1:]] == [
        ("port==1.4", "good"),
        ("port==2.0", "bad"),
        ("port==1.9", "good"),
        ("port==1.10", "bad"),
    ]
    assert found.notes[0].startswith("port==1.9 → port==1.10: worse")
    assert found.notes[-1] == "environments: 4 of at most 4"
    written = json.loads((tmp_path / "bisect.json").read_text())
    assert written["answer"] == found.line
    assert [step["outcome"] for step in written["steps"]] == ["good", "bad", "good", "bad"]


def test_what_a_release_forces_is_said(search):
    _, heard = search("1.4", "2.0", bad_releases={"1.10", "2.0"})
    words = {step.name: step.words for step in heard[1:]}
    assert words["port==1.9"] == "words; forces transformers 4 → 5"
    assert words["port==1.10"] == "words"


def test_a_release_that_cannot_be_built_is_gone_around_and_said(search):
    found, heard = search("1.1", "1.4", bad_releases={"1.4"})
    assert found.line == "first bad: port==1.4 (last good: port==1.1)"
    assert [(step.outcome, step.words) for step in heard[3:]] == [
        ("skipped", "1.3 cannot be built next: name another")
    ]
    assert "not measured between them: 1.3; the change may" in found.notes[1]


def test_a_history_that_is_not_monotone_is_noted(search):
    found, _ = search("1.0", "2.0", bad_releases={"1.1", "1.10", "2.0"}, checks=9)
    assert any("not monotone: 1.1 is bad and 1.4 after it is good" in note for note in found.notes)


def test_backwards_the_fix_is_found(search):
    found, _ = search("2.0", "1.4", bad_releases={"1.4", "1.9"})
    assert found.line == "last bad: port==1.9 (first good: port==1.10)"
    assert "it was fixed in port==1.10" in found.notes[1]
