"""Masks are changed in the form in which an attention is given them."""

import pytest
import torch

from harness.teeth.operators.attention import (
    _first_hidden,
    _Masked,
    _next_seen,
    _seen_a_little,
    _uniform,
)

STATES = torch.zeros(1, 3, 4)
SEEN = torch.ones(3, 3, dtype=torch.bool).tril()[None, None]
FLOATS = torch.zeros(1, 1, 3, 3).masked_fill(~SEEN, torch.finfo(torch.float32).min)


def seen_in(change, mask):
    _, kwargs = _Masked(change, as_given=True)((STATES,), {"attention_mask": mask})
    made = kwargs["attention_mask"]
    assert made.dtype == mask.dtype
    return made


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (_next_seen, [[1, 1, 0], [1, 1, 1], [1, 1, 1]]),
        (_first_hidden, [[1, 0, 0], [0, 1, 0], [0, 1, 1]]),
        (_uniform, [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
    ],
)
def test_floats_and_booleans_of_either_sense_hide_the_same_keys(change, seen):
    wanted = torch.tensor(seen, dtype=torch.bool)[None, None]
    assert torch.equal(seen_in(change, FLOATS) == 0.0, wanted)
    assert torch.equal(seen_in(change, SEEN), wanted)
    assert torch.equal(~seen_in(change, ~SEEN), wanted)


def test_a_single_query_sees_the_last_key_in_either_sense():
    last = SEEN[:, :, -1:]
    assert torch.equal(seen_in(_uniform, last), last)
    assert torch.equal(seen_in(_uniform, ~last), ~last)


def test_a_masked_key_counts_a_little_where_the_mask_may_be_of_numbers():
    planted = _Masked(_seen_a_little, as_given=False)
    for mask in (SEEN, FLOATS):
        made = planted((STATES,), {"attention_mask": mask})[1]["attention_mask"]
        assert torch.equal(made, torch.zeros(1, 1, 3, 3).masked_fill(~SEEN, -20.0))
