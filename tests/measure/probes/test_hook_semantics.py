from contextlib import contextmanager

import pytest
import torch

from harness.case import Case, Cell, Prompt
from harness.measure.probes.hook_semantics import looking_at_itself, mixed_in
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.ports import load_port
from harness.models.ports.asking import PLAIN

PROMPT = Prompt.unpadded(((5, 6, 7, 8, 9), (9, 4, 11, 5, 7)), origin="a test")
PLAN = Plan(prompts=(PROMPT,), shrink_seconds=0)
FAULTLESS = "gpt_neox"  # a parallel block, whose attention the bridge computes itself


@pytest.fixture(scope="module")
def references():
    return References()


class Planted:
    """A port whose edits pass through a change before they are asked for."""

    def __init__(self, runner, change) -> None:
        self.runner, self.change = runner, change

    def __getattr__(self, name):
        return getattr(self.runner, name)

    def run(self, prompt, sites, asking=PLAIN):
        if not asking.edits:
            return self.runner.run(prompt, sites, asking)
        with self.change(self.runner, asking) as changed:
            return self.runner.run(prompt, sites, changed)


def measured(references, mode, change=None, family=FAULTLESS):
    def load(cell, checkpoint):
        runner = load_port(cell, checkpoint)
        return runner if change is None else Planted(runner, change)

    cell = Cell(case=Case(family=family), loading_mode=mode, dtype="exact", probe="hook_semantics")
    return measure_cell(cell, run_id="a-run", references=references, plan=PLAN, load=load)


def failing(result):
    return {row["check"] for row in result.deltas if row["verdict"] == "fail"}


def instead(site, change):
    """Plant: what is written at a site is changed on the way."""

    @contextmanager
    def planted(_, asking):
        edits = {
            name: (lambda tensor, edit=edit: change(tensor, edit)) if name == site else edit
            for name, edit in asking.edits.items()
        }
        yield type(asking)(edits=edits)

    return planted


def moved(site, to):
    """Plant: what is written at one site is written at another."""

    @contextmanager
    def planted(_, asking):
        edits = {to if name == site else name: edit for name, edit in asking.edits.items()}
        yield type(asking)(edits=edits)

    return planted


@pytest.mark.parametrize("mode", ["bridge", "bridge_compat"])
def test_a_port_whose_hooks_write_where_they_stand_passes(mode, references):
    result = measured(references, mode)
    assert result.verdict == "pass"
    assert {row["check"] for row in result.deltas} == {
        f"write blocks.{site}"
        for site in (
            "1.resid_pre",
            "1.attn.pattern",
            "1.attn.z",
            "1.attn_out",
            "1.mlp.post",
            "1.mlp_out",
            "2.resid_post",
        )
    }


@pytest.mark.parametrize(
    "site", ["blocks.1.attn.z", "blocks.1.attn.pattern", "blocks.2.resid_post"]
)
def test_a_hook_that_does_not_write_back_fails_for_its_site_alone(site, references):
    result = measured(references, "bridge", instead(site, lambda tensor, _: tensor))
    assert (result.verdict, result.row["first_site"]) == ("fail", "logits")
    assert failing(result) == {f"write {site}"}


def test_a_hook_that_stands_before_a_norm_instead_of_behind_it_fails(references):
    change = moved("blocks.1.mlp.post", "blocks.1.mlp.pre")
    assert failing(measured(references, "bridge", change)) == {"write blocks.1.mlp.post"}


def test_what_is_written_to_resid_mid_has_to_reach_the_stream(references):
    result = measured(references, "bridge", family="llama")
    assert failing(result) == {"write blocks.1.resid_mid"}


def test_a_value_bias_that_is_folded_needs_rows_that_sum_to_one(references):
    half = instead("blocks.1.attn.pattern", lambda tensor, edit: edit(tensor) / 2)
    assert failing(measured(references, "bridge", half)) == {"write blocks.1.attn.pattern"}


def test_a_mixture_leaves_constants_alone_and_tells_positions_apart():
    tensor = torch.randn(2, 5, 3, dtype=torch.float64)
    mixed = mixed_in(PROMPT)
    torch.testing.assert_close(mixed(tensor + 1), mixed(tensor) + 1)
    assert len(mixed(tensor).flatten().unique()) == 30
    flat = tensor.flatten(0, 1)
    assert torch.equal(mixed(flat), mixed(tensor).flatten(0, 1))


def test_a_query_that_looks_at_itself_looks_at_nothing_else():
    pattern = looking_at_itself(torch.rand(2, 3, 4, 5))
    assert torch.equal(pattern.sum(-1), torch.ones(2, 3, 4))
    assert bool((pattern.diagonal(dim1=-2, dim2=-1) == 1).all())
