import dataclasses
import time

import pytest
from hypothesis import strategies as st

from harness.case import Prompt
from harness.measure.drawing import MAX_BATCH, _size, draw_prompts, smallest_failing
from harness.measure.prompts import LONGEST, Vocabulary, bank

WINDOW = 6
TINY = Vocabulary(size=67, max_length=37, windows=(WINDOW,), special=(1, 2, 3), padding=True)
VOCABULARIES = st.builds(
    Vocabulary,
    size=st.integers(8, 60_000),
    max_length=st.integers(8, LONGEST),
    windows=st.lists(st.integers(1, 7), max_size=2, unique=True).map(tuple),
    special=st.lists(st.integers(0, 7), max_size=3).map(tuple),
    padding=st.booleans(),
)
LONG = Prompt.unpadded((tuple(range(1, 31)), tuple(range(31, 61))), origin="a test")


def size_of(prompt):
    return len(prompt.tokens), len(prompt.tokens[0])


def lengths_of(prompts):
    return [len(prompt.tokens[0]) for prompt in prompts]


def banked(origin, vocabulary=TINY):
    return next(p for p in bank(vocabulary) if p.origin == f"bank:{origin}")


def smallest(fails, *, known=LONG, seconds=20.0):
    return smallest_failing(known, TINY, fails=fails, seconds=seconds)


def long_and_telling(prompt):
    return len(prompt.tokens[0]) > WINDOW and any(any(row) for row in prompt.tokens)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_one_seed_draws_the_same_prompts_and_another_seed_draws_others(count):
    drawn = draw_prompts(TINY, count=count, seed=0)
    assert len(drawn) == count
    assert drawn == draw_prompts(TINY, count=count, seed=0)
    assert drawn != draw_prompts(TINY, count=count, seed=1)


def test_nothing_is_drawn_where_nothing_is_asked_for():
    assert draw_prompts(TINY, count=0, seed=0) == ()


def test_drawn_prompts_are_prompts_of_the_vocabulary():
    for prompt in draw_prompts(TINY, count=50, seed=0):
        rows, length = size_of(prompt)
        assert 1 <= rows <= MAX_BATCH
        assert 1 <= length <= TINY.max_length
        assert all(0 <= token < TINY.size for row in prompt.tokens for token in row)
        assert (prompt.padded, prompt.origin) == (False, "hypothesis")


def test_drawn_lengths_lean_towards_the_telling_ones():
    lengths = lengths_of(draw_prompts(TINY, count=200, seed=0))
    telling = sum(length in TINY.telling_lengths for length in lengths) / len(lengths)
    assert telling > 2 * len(TINY.telling_lengths) / TINY.max_length
    assert len(set(lengths)) > len(TINY.telling_lengths)


def test_drawn_tokens_are_special_now_and_then():
    drawn = draw_prompts(TINY, count=50, seed=0)
    tokens = [token for prompt in drawn for row in prompt.tokens for token in row]
    share = sum(token in TINY.special for token in tokens) / len(tokens)
    assert share > 2 * len(TINY.special) / TINY.size


@pytest.mark.parametrize(
    ("fails", "wanted"),
    [
        (lambda _: True, ((0,),)),
        (long_and_telling, ((0,) * WINDOW + (1,),)),
        (lambda prompt: any(13 in row for row in prompt.tokens), ((13,),)),
        (lambda prompt: len(prompt.tokens) > 1, ((0,), (0,))),
        (lambda prompt: len(prompt.tokens[0]) >= 15, ((0,) * 15,)),
    ],
)
def test_a_failure_is_cut_down_to_the_smallest_prompt(fails, wanted):
    found = smallest(fails)
    assert (found.tokens, found.origin) == (wanted, "shrunk")


def test_a_failure_that_hypothesis_would_not_draw_is_kept_and_cut():
    rare = (5, 44, 31, 9, 62, 27)
    known = Prompt.unpadded((rare + (0,) * 20, (0,) * 26), origin="a test")
    found = smallest(lambda prompt: any(row[:6] == rare for row in prompt.tokens), known=known)
    assert found.tokens == (rare,)


@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("token", [0, 40])
@pytest.mark.parametrize("rows", [1, 2])
def test_what_is_given_fails_and_is_no_larger_than_what_was_known(length, token, rows):
    def fails(prompt):
        n_rows, n_tokens = size_of(prompt)
        return n_tokens >= length and n_rows >= rows and prompt.tokens[0][-1] <= token

    known = Prompt.unpadded(((0,) * 30, (66,) * 30), origin="a test")
    found = smallest(fails, known=known)
    assert fails(found)
    assert size_of(found) <= size_of(known)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, 0.3, 0.4])
def test_the_search_ends_with_its_time_and_gives_the_smallest_that_it_saw_fail(seconds):
    asked, failed = [], [LONG]

    def fails(prompt):
        asked.append(time.monotonic())
        time.sleep(0.01)
        failed.extend([prompt] if long_and_telling(prompt) else [])
        return long_and_telling(prompt)

    started = time.monotonic()
    found = smallest(fails, seconds=seconds)
    assert all(at - started < seconds + 0.05 for at in asked)
    assert found.tokens == min(failed, key=_size).tokens


def test_a_padded_prompt_stays_as_it_is():
    known = banked("left_padding")
    assert smallest(lambda _: True, known=known) is known


@pytest.mark.parametrize("seed", range(3))
def test_past_the_keys_that_attention_keeps_no_token_comes_twice(seed):
    choosing = dataclasses.replace(TINY, repeats_to=WINDOW)
    rows = [row for each in draw_prompts(choosing, count=60, seed=seed) for row in each.tokens]
    assert all(len(set(row)) == len(row) for row in rows if len(row) > WINDOW)
    assert any(len(set(row)) < len(row) for row in rows if len(row) <= WINDOW)


def test_a_failure_past_the_keys_that_attention_keeps_is_cut_down_without_repeats():
    choosing = dataclasses.replace(TINY, repeats_to=WINDOW)
    found = smallest_failing(LONG, choosing, fails=long_and_telling, seconds=20.0)
    assert sorted(found.tokens[0]) == [*range(WINDOW + 1)]
