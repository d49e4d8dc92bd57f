"""By position: the one that differs is told, those that do not count are left out."""

import pytest
import torch

from harness.case import Case, Cell, Prompt
from harness.measure.positions import by_position
from harness.measure.references import References
from harness.measure.relations import EQUAL, SHIFT
from harness.measure.run import Plan, measure_cell

PADDED = Prompt(tokens=((0, 0, 7), (5, 6, 7)), attention_mask=((0, 0, 1), (1, 1, 1)), origin="x")
STREAM = torch.ones(2, 3, 4)


def rows(actual, expected, site, relation=EQUAL):
    return list(by_position(actual, expected, PADDED, site, relation=relation, dtype="exact"))


def test_the_position_that_differs_is_told_and_padding_is_left_out():
    moved = STREAM.clone()
    moved[1, 1, 2] += 0.5
    found = rows(moved, STREAM, "blocks.0.resid_post")
    assert [(row["row"], row["position"], row["token"]) for row in found] == [
        (0, 2, 7),
        (1, 0, 5),
        (1, 1, 6),
        (1, 2, 7),
    ]
    assert [row["max_abs"] for row in found] == [0.0, 0.0, 0.5, 0.0]
    assert [row["rel_l2"] for row in found] == [0.0, 0.0, 0.25, 0.0]


def test_of_attention_it_is_the_query():
    pattern = torch.ones(2, 5, 3, 3)
    moved = pattern.clone()
    moved[1, 4, 2, 0] += 0.5
    found = rows(moved, pattern, "blocks.0.attn.pattern")
    assert [(row["row"], row["position"]) for row in found if row["max_abs"]] == [(1, 2)]


def test_what_the_relation_takes_out_is_no_difference():
    found = rows(STREAM + 3.0, STREAM + torch.arange(4.0), "logits", SHIFT)
    assert all(row["max_abs"] > 0 for row in found)
    assert not any(row["max_abs"] for row in rows(STREAM + 3.0, STREAM, "logits", SHIFT))


def test_a_decoders_positions_have_no_token_of_the_prompt():
    assert {row["token"] for row in rows(STREAM, STREAM, "decoder_blocks.0.resid_post")} == {None}


def test_all_zero_has_no_relative_distance():
    assert {row["rel_l2"] for row in rows(STREAM, STREAM * 0.0, "embed")} == {None}


@pytest.mark.parametrize(("relation", "told"), [("equal", True), ("processing", False)])
def test_a_cell_that_differs_says_so_at_each_position(relation, told):
    cell = Cell(case=Case(family="gpt2"), loading_mode="bridge_compat", dtype="exact")
    plan = Plan(relation=relation, shrink_seconds=0.5)
    result = measure_cell(cell, run_id="r", references=References(), plan=plan)
    assert bool(result.positions) == told
    for row in result.positions:
        assert (row["site"], row["prompt_id"]) == (
            result.row["first_site"],
            result.row["first_prompt_id"],
        )
