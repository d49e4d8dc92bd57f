from harness.case import Prompt
from harness.measure.probes.model import longest, telling


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
