from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.versions.search import bisect, most_evaluations, smallest_set

SHORT = {"g": "good", "b": "bad", "-": "skipped"}


def searched(history, *, checks=0):
    """Bisect a history written as letters; give what was found and the places evaluated."""
    asked = []

    def outcome_of(place):
        asked.append(place)
        return SHORT[history[place]]

    return bisect(range(len(history)), outcome_of, checks=checks), asked


@given(good=st.integers(1, 200), bad=st.integers(1, 200))
def test_the_first_bad_one_is_found_in_no_more_steps_than_promised(good, bad):
    found, asked = searched("g" * good + "b" * bad)
    assert (found.last_good, found.first_bad) == (good - 1, good)
    assert found.between == found.contradictions == ()
    assert len(asked) == len(set(asked)) == found.evaluated
    assert len(asked) <= ceil(log2(good + bad)) + 2


@given(st.text("gb", max_size=40), st.integers(0, 5))
def test_any_history_comes_to_a_turn_in_no_more_steps(middle, checks):
    history = f"g{middle}b"
    found, asked = searched(history, checks=checks)
    assert history[found.last_good : found.first_bad + 1] == "gb"
    assert len(asked) <= most_evaluations(len(history)) + checks
    for bad, good in found.contradictions:
        assert bad < good
        assert history[bad] + history[good] == "bg"


@given(st.text("gb-", max_size=40))
def test_what_cannot_be_built_is_gone_around_and_named(middle):
    history = f"g{middle}b"
    found, asked = searched(history)
    assert (history[found.last_good], history[found.first_bad]) == ("g", "b")
    assert all(history[place] == "-" for place in found.between)
    assert found.between == tuple(range(found.last_good + 1, found.first_bad))
    assert len(asked) == len(set(asked))


def test_nearest_neighbours_of_one_that_cannot_be_built_are_tried_first():
    found, asked = searched("gggg-bbbb")
    assert asked[2:4] == [4, 3]
    assert (found.last_good, found.first_bad, found.between) == (3, 5, (4,))


def test_neighbours_need_no_step_between_them():
    assert searched("gb")[1] == [1, 0]


def test_a_history_that_turns_back_is_noticed_by_checks():
    history = "gbb" + "g" * 8 + "bb"
    assert searched(history, checks=20)[0].contradictions[0] == (1, 3)
    assert searched("ggggbbbb", checks=20)[0].contradictions == ()


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ("ggg", "2 should be bad, and is good"),
        ("bbb", "0 should be good, and is bad"),
        ("gb-", "2 should be bad, and cannot be measured"),
        ("-bb", "0 should be good, and cannot be measured"),
        ("g", "the same release"),
    ],
)
def test_an_end_that_is_wrong_is_said(history, words):
    with pytest.raises(UsageError, match=words):
        searched(history)


def blamed_for(changes, truth, *, likely=0):
    """Blame by a truth: a function from a set of changes to an outcome."""
    asked = []

    def outcome_of(subset):
        asked.append(subset)
        return truth(set(subset))

    return smallest_set(changes, outcome_of, likely=likely), asked


@given(st.integers(1, 24), st.data())
def test_one_guilty_change_is_found_among_many(n, data):
    guilty = data.draw(st.integers(0, n - 1))
    found, _ = blamed_for(range(n), lambda these: "bad" if guilty in these else "good", likely=3)
    assert (found.culprits, found.smallest) == ((guilty,), True)


@given(st.sets(st.integers(0, 15), min_size=1))
def test_changes_that_are_guilty_together_are_found_together(guilty):
    found, asked = blamed_for(range(16), lambda these: "bad" if guilty <= these else "good")
    assert set(found.culprits) == guilty
    assert len(asked) == len(set(asked))


@given(st.sets(st.frozensets(st.integers(0, 3), min_size=1), min_size=1, max_size=3))
def test_of_few_changes_the_smallest_set_is_found(guilty):
    def truth(these):
        return "bad" if any(each <= these for each in guilty) else "good"

    found, _ = blamed_for(range(4), truth)
    assert found.smallest
    assert len(found.culprits) == (4 if not guilty else min(map(len, guilty)))


@given(st.sets(st.frozensets(st.integers(0, 11), min_size=1), min_size=1, max_size=4))
def test_of_many_changes_none_of_those_found_can_be_left_out(guilty):
    def truth(these):
        return "bad" if any(each <= these for each in guilty) else "good"

    culprits = set(blamed_for(range(12), truth)[0].culprits)
    assert truth(culprits) == "bad" or len(culprits) == 12
    assert all(truth(culprits - {each}) == "good" for each in culprits)


def test_a_set_that_cannot_be_built_is_gone_around_and_said():
    def truth(these):
        if these == {"transformers"}:
            return "skipped"  # it cannot be had without the other
        return "bad" if "transformers" in these else "good"

    found, _ = blamed_for(["transformers", "tokenizers", "numpy"], truth, likely=2)
    assert found.culprits == ("transformers", "tokenizers")
    assert found.skipped == (("transformers",),)


def test_a_single_change_is_blamed_without_a_step():
    assert blamed_for(["torch"], None)[0].culprits == ("torch",)


def test_likely_changes_are_tried_first_and_alone():
    _, asked = blamed_for("abcdefgh", lambda these: "bad" if "c" in these else "good", likely=4)
    assert asked == [("a",), ("b",), ("c",)]


def test_nothing_changed_is_nothing_to_blame():
    with pytest.raises(UsageError, match="nothing to blame"):
        blamed_for([], None)
