import pytest
import torch

from harness.case import Case, Cell, Prompt
from harness.measure.probes.gradients import next_token_loss
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.ports import load_port

PROMPTS = (Prompt.unpadded(((5, 6, 7, 8, 9), (9, 4, 11, 5, 7)), origin="a test"),)
PLAN = Plan(prompts=PROMPTS, shrink_seconds=0)


@pytest.fixture(scope="module")
def references():
    return References()


def measured(references, mode, load=load_port, family="gpt2"):
    cell = Cell(case=Case(family=family), loading_mode=mode, dtype="exact", probe="gradients")
    return measure_cell(cell, run_id="a-run", references=references, plan=PLAN, load=load)


def planted(change):
    """Load the port with a change between the embedding and the first block."""

    def load(cell, checkpoint):
        runner = load_port(cell, checkpoint)
        block = runner.model.transformer.h[0]
        block.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
        return runner

    return load


class Scaled(torch.autograd.Function):
    """The same tensor, and twice its gradient."""

    @staticmethod
    def forward(_, tensor):
        return tensor.clone()

    @staticmethod
    def backward(_, gradient):
        return 2 * gradient


@pytest.mark.parametrize("mode", ["hf_sdpa", "bridge", "bridge_compat"])
def test_a_port_that_learns_as_the_reference_does_passes(mode, references):
    result = measured(references, mode)
    assert (result.verdict, {row["site"] for row in result.deltas}) == ("pass", {"embed"})


def test_where_the_means_are_taken_off_the_gradient_is_compared_up_to_them(references):
    (row,) = measured(references, "bridge_compat").deltas
    assert row["relation"] == "shift"


@pytest.mark.parametrize(
    "change", [torch.Tensor.detach, Scaled.apply, lambda x: 2 * x - x.detach()]
)
def test_a_gradient_that_is_cut_off_or_scaled_fails_at_the_embedding(change, references):
    result = measured(references, "hf_sdpa", planted(change))
    assert (result.verdict, result.row["first_site"]) == ("fail", "embed")
    assert "next-token loss" in result.row["reason"]


def test_the_loss_is_that_of_the_token_that_follows():
    logits = torch.full((1, 3, 5), -100.0)
    logits[0, 0, 2] = logits[0, 1, 4] = 100.0
    assert next_token_loss(logits, Prompt.unpadded(((1, 2, 4),), origin="a test")) == 0.0
    assert next_token_loss(logits, Prompt.unpadded(((1, 2, 3),), origin="a test")) == 100.0
