"""What a config.json says of text, wherever it stands in it."""

import pytest

from harness.models.text_config import text_config, vocabulary_size

COMPOSITE = {
    "pad_token_id": 3,
    "vision_config": {"hidden_size": 8},
    "text_config": {"vocab_size": 67, "final_logit_softcapping": 30.0},
}


def test_a_plain_config_is_all_of_text():
    config = {"vocab_size": 9, "inner": {"vocab_size": 5}}
    assert text_config(config) == config
    assert vocabulary_size(config) == 9


def test_of_a_composite_config_the_text_part_counts_beside_what_stands_around_it():
    found = text_config(COMPOSITE)
    assert (found["pad_token_id"], found["final_logit_softcapping"]) == (3, 30.0)
    assert vocabulary_size(COMPOSITE) == 67
    assert vocabulary_size({"outer_config": COMPOSITE}) == 67


@pytest.mark.parametrize("name", ["n_words", "src_vocab_size"])
def test_the_number_of_tokens_has_other_names(name):
    assert vocabulary_size({name: 11}) == 11


@pytest.mark.parametrize("config", [{}, {"vocab_size": None}, {"part": {"hidden_size": 4}}])
def test_a_config_without_a_number_of_tokens_has_none(config):
    assert vocabulary_size(config) == 0
    assert text_config(config) == config
