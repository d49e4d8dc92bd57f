"""The fuzzer of stored things: a slice of it is clean, and it finds what is planted."""

from random import Random

import pytest

from harness.errors import RunFolderError
from harness.record import parts, read_sealed, sealing, write_sealed
from tests.fuzz.hunting import BAD, Hunt, Trial, hunt, trial_from
from tests.fuzz.mutations import MUTATIONS, mutations_of
from tests.fuzz.things import Thing, things

INPUTS = 250


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return things(tmp_path_factory.mktemp("things"))


def test_a_slice_of_the_fuzzer_finds_no_reader_that_errs(made, tmp_path):
    found = hunt(made, tmp_path, inputs=INPUTS, first=1)
    assert [(str(trial), words) for trial, _, words in found.bad] == []
    assert found.total() >= INPUTS
    assert len(found.counts) == len(made)


def test_without_seals_the_fuzzer_finds_wrong_numbers(made, tmp_path, monkeypatch):
    of_parts = [thing for thing in made if thing.name == "a run in parts"]
    trials = [
        Trial(
            thing=of_parts[0].name,
            reader="read_fingerprints",
            file="fingerprints/gpt2-default.exact.reference.parquet",
            mutation="flip a bit",
            number=number,
        )
        for number in range(40)
    ]
    hunting = Hunt(of_parts, tmp_path)
    assert {hunting.try_(trial)[0] for trial in trials} == {"refused"}
    monkeypatch.setattr(parts, "is_sealed", lambda content: b"seal:sha256:" in content)
    assert "wrong" in {hunting.try_(trial)[0] for trial in trials}


def planted(folder, read, *, by_hand=False):
    """Give a thing of one sealed file with a reader of one's own."""
    folder.mkdir()
    write_sealed(folder / "a.json", {"number": 1})
    thing = Thing(
        name="a", folder=folder, files=["a.json"], readers={"read": read}, by_hand=by_hand
    )
    return Hunt([thing], folder.with_name("scratch"))


def outcome_of(hunting, *, mutation="append"):
    trial = Trial(thing="a", reader="read", file="a.json", mutation=mutation, number=0)
    return hunting.try_(trial)[0]


def refusing(words):
    def read(folder):
        try:
            return read_sealed(folder / "a.json")
        except (OSError, ValueError) as error:
            raise RunFolderError(words.format(folder=folder)) from error

    return read


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (refusing("{folder} cannot be read; next: delete it"), "refused"),
        (refusing("{folder} cannot be read"), "unclear"),
        (refusing("something cannot be read; next: delete it"), "unclear"),
        (lambda folder: read_sealed(folder / "a.json"), "unexpected"),
        (lambda folder: (folder / "a.json").read_bytes(), "wrong"),
        (lambda folder: (folder / "a.json").read_bytes()[:9], "same"),
    ],
)
def test_each_outcome_is_told_from_the_others(read, outcome, tmp_path):
    assert outcome_of(planted(tmp_path / "stored-thing", read)) == outcome


def test_what_is_edited_by_hand_may_be_read_otherwise(tmp_path):
    read = refusing("{folder} cannot be read; next: delete it")
    hunting = planted(tmp_path / "stored-thing", read)
    edits = ("odd value, no seal", "other key, no seal")
    outcomes = {outcome_of(hunting, mutation=edit) for edit in edits}
    assert outcomes == {"by hand"}
    assert not outcomes.intersection(BAD)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_mutation_is_the_same_for_the_same_number_and_mostly_changes_something(mutation):
    content = sealing.sealed_json({"schema_version": 5, "a": [1, {"b": "c"}], "d": 2.5}).encode()
    made = [mutation.change(content, Random(number)) for number in range(20)]
    assert made == [mutation.change(content, Random(number)) for number in range(20)]
    assert sum(each != content for each in made) > 10


def test_a_parquet_file_is_not_changed_as_json_is():
    assert {str(each) for each in mutations_of("a.parquet")} < set(map(str, MUTATIONS))
    assert {*mutations_of("a.json")} == {*MUTATIONS}


def test_a_trial_is_read_as_it_was_printed():
    trial = Trial(thing="a run", reader="show", file="a/b.json", mutation="cut out", number=7)
    assert trial_from(str(trial)) == trial
