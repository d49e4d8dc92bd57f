import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.case import Prompt
from harness.errors import CheckpointError
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


def lengths_of(prompts):
    return [len(prompt.tokens[0]) for prompt in prompts]


def banked(origin, vocabulary=TINY):
    return next(p for p in bank(vocabulary) if p.origin == f"bank:{origin}")


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


def test_where_attention_chooses_keys_no_row_past_them_holds_a_token_twice():
    doge = {"vocab_size": 67, "max_position_embeddings": 37, "keep_window_size": WINDOW}
    vocabulary = Vocabulary.of(doge, padding=True)
    assert vocabulary.repeats_to == WINDOW
    rows = [
        [token for token, shown in zip(row, mask, strict=True) if shown]
        for prompt in bank(vocabulary)
        for row, mask in zip(prompt.tokens, prompt.attention_mask, strict=True)
    ]
    assert all(len(set(row)) == len(row) for row in rows if len(row) > WINDOW)
    assert banked("repeats", vocabulary).tokens[0] == banked("repeats").tokens[0][:WINDOW]


def test_a_vocabulary_smaller_than_its_lengths_can_be_drawn_without_repeats():
    small = {"vocab_size": 20, "max_position_embeddings": 37, "keep_window_size": WINDOW}
    assert Vocabulary.of(small, padding=True).max_length == 20
    assert Vocabulary.of({**small, "keep_window_size": 2048}, padding=True).max_length == 37


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


def test_a_composite_config_is_read_in_its_text_part():
    config = {"text_config": {"vocab_size": 67, "n_positions": 37, "attention_window": [6, 9]}}
    found = Vocabulary.of(config, padding=True)
    assert (found.size, found.max_length, found.windows) == (67, 37, (6, 9))


def test_a_config_without_a_number_of_tokens_is_refused():
    with pytest.raises(CheckpointError, match="no number of tokens"):
        Vocabulary.of({"hidden_size": 4}, padding=True)
