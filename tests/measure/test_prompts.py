import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.case import Prompt
from harness.measure.prompts import (
    LONGEST,
    MAX_BATCH,
    Vocabulary,
    _size,
    bank,
    draw_prompts,
    smallest_failing,
)

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


def without(prompt, field):
    return tuple(dict.fromkeys(getattr(prompt, field)))


def smallest(fails, *, known=LONG, seconds=20.0):
    return smallest_failing(known, TINY, fails=fails, seconds=seconds)


def long_and_telling(prompt):
    return len(prompt.tokens[0]) > WINDOW and any(any(row) for row in prompt.tokens)


def test_a_vocabulary_is_read_off_a_config():
    config = {
        "vocab_size": 67,
        "n_positions": 37,
        "sliding_window": 6,
        "window_size": 9,
        "bos_token_id": 1,
        "eos_token_id": [2, 5],
        "pad_token_id": None,
    }
    found = Vocabulary.of(config, padding=True)
    assert found == Vocabulary(size=67, max_length=37, windows=(6, 9), special=(1,), padding=True)


def test_a_window_that_no_prompt_can_pass_is_not_looked_for():
    found = Vocabulary.of({"vocab_size": 9, "n_positions": 20, "sliding_window": 20}, padding=True)
    assert found.windows == ()


def test_a_checkpoint_that_allows_more_is_asked_up_to_the_longest():
    assert Vocabulary.of({"vocab_size": 9, "n_positions": 8192}, padding=True).max_length == LONGEST
    assert Vocabulary.of({"vocab_size": 9}, padding=True).max_length == LONGEST


@given(VOCABULARIES)
def test_telling_lengths_are_one_around_each_window_past_it_and_the_longest(vocabulary):
    telling = vocabulary.telling_lengths
    assert {1, vocabulary.max_length} <= set(telling)
    for window in vocabulary.windows:
        assert window + 1 in telling
    assert list(telling) == sorted(set(telling))
    assert all(0 < length <= vocabulary.max_length for length in telling)


@given(VOCABULARIES)
def test_the_bank_has_one_token_more_than_each_window_and_the_longest(vocabulary):
    lengths = set(lengths_of(bank(vocabulary)))
    assert {1, vocabulary.max_length} <= lengths
    assert {window + 1 for window in vocabulary.windows} <= lengths
    assert {min(2 * w + 3, vocabulary.max_length) for w in vocabulary.windows} <= lengths


@given(VOCABULARIES)
def test_every_token_of_the_bank_is_in_the_vocabulary(vocabulary):
    for prompt in bank(vocabulary):
        assert all(0 <= token < vocabulary.size for row in prompt.tokens for token in row)


@given(VOCABULARIES)
def test_a_batch_is_as_large_as_no_other_axis(vocabulary):
    batches = [prompt for prompt in bank(vocabulary) if len(prompt.tokens) > 1]
    assert batches
    assert all(len(prompt.tokens) != len(prompt.tokens[0]) for prompt in batches)


@given(VOCABULARIES)
def test_no_two_prompts_of_the_bank_are_the_same(vocabulary):
    named = [p for p in bank(vocabulary) if "window" not in p.origin and p.origin != "bank:longest"]
    assert len({prompt.prompt_id for prompt in named}) == len(named)


def test_a_row_of_the_bank_repeats_one_token():
    assert [len(set(row)) for row in banked("repeats").tokens] == [1, 2]


def test_special_tokens_stand_at_the_start_and_inside():
    forward, backward = banked("special_tokens").tokens
    assert forward[:3] == (1, 2, 3)
    assert backward[-3:] == (3, 2, 1)


@pytest.mark.parametrize(
    ("side", "mask"), [("left", (0, 0, 0, 1, 1, 1, 1)), ("right", (1, 1, 1, 1, 0, 0, 0))]
)
def test_one_row_is_padded_on_each_side(side, mask):
    prompt = banked(f"{side}_padding")
    assert prompt.attention_mask == ((1,) * 7, mask)
    assert {token for token, real in zip(prompt.tokens[1], mask, strict=True) if not real} == {3}


def test_padding_is_left_out_where_it_is_not_asked_for():
    unpadded = dataclasses.replace(TINY, padding=False)
    assert any(prompt.padded for prompt in bank(TINY))
    assert not any(prompt.padded for prompt in bank(unpadded))


def test_without_special_tokens_there_is_no_prompt_of_them():
    plain = dataclasses.replace(TINY, special=())
    assert "bank:special_tokens" not in {prompt.origin for prompt in bank(plain)}


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
