"""Faults in how logits come from the last hidden state: each is caught; without one, silence."""

import sys
from dataclasses import replace

import pytest

from harness.case import Case, Cell
from harness.measure.probes.hidden_to_logits import AS_THE_REFERENCE, shapes
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.heads import Convention, Head
from harness.models.ports import load_port

BARE = Plan(drawn=1, shrink_seconds=0.0)
MODULE = sys.modules[shapes.__module__]  # the package has the function of the same name


@pytest.fixture(scope="module")
def references():
    return References()


def cell_of(family, *, variant="default", mode="hf_eager", dtype="float32"):
    case = Case(family=family, variant=variant)
    return Cell(case=case, loading_mode=mode, dtype=dtype, probe="hidden_to_logits")


def measured(cell, references, plant=None, plan=BARE):
    def load(cell, checkpoint):
        runner = load_port(cell, checkpoint)
        if plant is not None:
            plant(runner)
        return runner

    return measure_cell(cell, run_id="r", references=references, plan=plan, load=load)


def head_with(**changes):
    def plant(runner):
        runner.family = replace(runner.family, head=replace(runner.family.head, **changes))

    return plant


def norm_applied_twice(runner):
    head_with(convention=Convention(finished=False, sequence_first=False))(runner)


def norm_forgotten(runner):
    head_with(convention=Convention(finished=True, sequence_first=True))(runner)


def permute_forgotten(runner):
    head_with(convention=Convention(finished=False, sequence_first=False))(runner)


def another_state(runner):
    last_hidden = runner.last_hidden
    runner.last_hidden = lambda prompt: (last_hidden(prompt)[0] * 1.001, last_hidden(prompt)[1])


def recorded_before_the_norm(runner):
    runner.model.config.tie_last_hidden_states = False
    norm = runner.family.head
    runner.family = replace(runner.family, head=AlwaysFinished(**vars_of(norm)))


def vars_of(head):
    return {name: getattr(head, name) for name in ("finish", "steps", "convention", "output")}


class AlwaysFinished(Head):
    def declared(self, model):  # noqa: ARG002 - a Head's signature
        return self.convention


FAULTS = {
    "norm applied twice": ("llama", norm_applied_twice, "before the final norm"),
    "norm forgotten (chatglm)": ("chatglm", norm_forgotten, "after the final norm"),
    "a release records the state before the norm": (
        "llama",
        recorded_before_the_norm,
        "after the final norm",
    ),
    "softcap forgotten": ("gemma2", head_with(steps=Head().steps), "after the final norm"),
    "scale forgotten": ("granite", head_with(steps=Head().steps), "after the final norm"),
    "scale forgotten (t5)": ("t5", head_with(steps=Head().steps), "after the final norm"),
    "another state": ("gpt2", another_state, "after the final norm"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_and_says_what_was_declared(name, references):
    family, plant, declared = FAULTS[name]
    found = measured(cell_of(family), references, plant)
    assert (found.verdict, found.row["first_site"]) == ("fail", "logits")
    assert f"allowed: {declared}" in found.row["reason"].replace("\\n", "\n")


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "granite", "t5", "bert", "chatglm"])
@pytest.mark.parametrize("dtype", ["exact", "float32", "bfloat16"])
def test_without_a_fault_nothing_is_said(name, dtype, references):
    found = measured(cell_of(name, dtype=dtype), references)
    assert (found.verdict, found.row["reason"]) == ("pass", None)
    assert {row["max_abs"] for row in found.deltas} == {0.0}


@pytest.mark.parametrize("shape", ["batch ≠ length", "batch = length"])
def test_a_forgotten_permute_is_caught_on_each_shape(shape, references, monkeypatch):
    monkeypatch.setattr(MODULE, "shapes", lambda prompt: {shape: shapes(prompt)[shape]})
    found = measured(cell_of("chatglm"), references, permute_forgotten)
    assert found.verdict in {"fail", "error"}
    assert "allowed: before the final norm, [batch, pos, d_model]" in found.row["reason"]
    assert "before the final norm, [pos, batch, d_model]" in found.row["reason"]


def test_the_power_is_what_a_mistaken_state_would_miss_the_logits_by(references):
    for family in ("llama", "granite", "chatglm"):
        found = measured(cell_of(family), references)
        assert min(row["power"] for row in found.deltas) > 1e-2


def test_where_no_norm_is_left_to_forget_the_check_says_so(references):
    for cell in (cell_of("bert"), cell_of("opt", variant="post_norm")):
        checks = {row["check"] for row in measured(cell, references).deltas}
        assert all(check.endswith("no final norm to forget") for check in checks)


def test_a_config_that_leaves_the_state_before_the_norm_is_read_so(references):
    def untied(runner):
        runner.model.config.tie_last_hidden_states = False

    assert measured(cell_of("llama"), references, untied).verdict == "pass"


def test_a_port_of_another_convention_is_brought_to_the_references(references):
    found = measured(cell_of("chatglm", mode="hf_sdpa"), references)
    rows = [row for row in found.deltas if row["check"].endswith(AS_THE_REFERENCE)]
    assert (found.verdict, {row["max_abs"] for row in rows}) == ("pass", {0.0})
    keys = [(row["check"], row["prompt_id"], row["site"]) for row in found.deltas]
    assert len(set(keys)) == len(keys)


def test_a_port_of_transformer_lens_gives_no_hidden_states(references):
    found = measured(cell_of("gpt2", mode="bridge"), references)
    assert (found.verdict, "no hidden_states" in found.row["reason"]) == ("unavailable", True)
