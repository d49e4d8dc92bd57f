from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.case import Prompt
from harness.measure.probes.model import Model, longest, telling


def row_of(length, *, origin="bank:any", rows=1):
    return Prompt.unpadded((tuple(range(length)),) * rows, origin=origin)


SHORT = row_of(3, origin="hypothesis")
LONG = row_of(37, origin="bank:longest")
PADDED = Prompt(tokens=((0,) * 40,), attention_mask=((0,) + (1,) * 39,), origin="bank:padded")
ASKED = (row_of(1), row_of(7, rows=2), LONG, PADDED, SHORT)


def test_the_longest_prompt_is_chosen_whatever_stands_before_it():
    assert longest(ASKED) == longest(ASKED[::-1]) == [LONG]


def test_the_longest_prompt_and_a_drawn_one_are_asked_the_shorter_first():
    assert telling(ASKED) == telling(ASKED[::-1]) == [SHORT, LONG]


def test_without_a_drawn_prompt_the_largest_batch_stands_beside_the_longest():
    assert telling(ASKED[:-1]) == [ASKED[1], LONG]


def test_of_padded_prompts_and_single_tokens_none_is_chosen():
    assert longest((row_of(1), PADDED)) == []


@pytest.mark.parametrize("built", [True, False])
def test_the_model_as_built_says_whether_a_decoder_reads_an_encoder(built):
    # EncoderDecoder's config.json says False of the nested decoder, ProphetNet's True of a decoder.
    config = SimpleNamespace(is_encoder_decoder=built)
    reference = SimpleNamespace(
        runner=SimpleNamespace(model=SimpleNamespace(config=config)),
        config={"is_encoder_decoder": not built},
    )
    unused = cast("Any", None)
    model = Model(cell=unused, runner=unused, reference=cast("Any", reference))
    assert model.is_encoder_decoder is built
