"""A cell examined: faults caught, idle and void, and the port as it was behind them."""

from functools import partial

import pytest
import torch

from harness.case import Case, Cell
from harness.measure.references import References, numerics_of
from harness.models.ports import load_port
from harness.teeth.bank import parts_of
from harness.teeth.body import body_of
from harness.teeth.exam import on_threads
from harness.teeth.fault import KINDS, Fault, as_it_is, changed
from harness.teeth.operators import faults_of
from harness.teeth.operators.reading import misread
from harness.teeth.scoring import Examiner, bank_plan, examine, examine_cell, sampled

BOS = frozenset({"BOS and tokenizer"})
GPT2 = Cell(case=Case(family="gpt2"), loading_mode="bridge", dtype="exact")


@pytest.fixture(scope="module")
def examiner():
    references = References()
    checkpoint = references.of(GPT2).checkpoint
    with numerics_of("exact"):
        runner = load_port(GPT2, checkpoint)
    return Examiner(GPT2, references, runner, bank_plan(checkpoint.config))


@pytest.fixture(scope="module")
def bias(examiner):
    return body_of(examiner.runner).readers["blocks.2.mlp.post"].bias


def fault(plant, site="blocks.2.mlp_out", **more):
    return Fault(kind="parameter", name="bias", size="x", site=site, plant=plant, **more)


def larger(value):
    return value + 1e-6


def test_a_fault_named_at_its_site_is_caught(examiner, bias):
    found = examiner.finding(fault(partial(changed, bias, larger)))
    assert (found.result, found.found) == ("caught", "blocks.2.mlp_out")


def test_a_fault_named_at_another_site_is_told(examiner, bias):
    found = examiner.finding(fault(partial(changed, bias, larger), site="blocks.0.mlp_out"))
    assert (found.result, found.found) == ("elsewhere", "blocks.2.mlp_out")


def test_what_changes_nothing_has_survived_unless_a_harsh_one_moves_no_bit_either(examiner, bias):
    assert examiner.finding(fault(as_it_is)).result == "survived"
    assert examiner.finding(fault(as_it_is, harsh=as_it_is)).result == "idle"
    loud = partial(changed, bias, larger)
    assert examiner.finding(fault(as_it_is, harsh=loud)).result == "survived"


def test_what_the_model_is_already_is_void(examiner, bias):
    assert examiner.finding(fault(partial(changed, bias, torch.clone))).result == "void"


def test_a_misread_site_of_a_large_model_is_caught_as_it_fires(examiner, monkeypatch):
    monkeypatch.setattr("harness.measure.comparer.LARGE", 0)
    assert examiner.finding(misread("blocks.1.attn.z", 1e-6)).result == "caught"


def test_a_misread_site_that_the_cell_does_not_compare_is_void(examiner):
    assert examiner.finding(misread("blocks.7.attn.z", 1e-6)).result == "void"
    assert examiner.finding(misread("blocks.1.attn.z", 1e-6)).result == "caught"


def test_the_sample_of_a_cell_is_the_same_each_time_and_has_every_kind(examiner):
    faults = [each for each in faults_of(body_of(examiner.runner)) if each.probe is None]
    first, second = (list(sampled(GPT2, order)) for order in (faults, faults[::-1]))
    assert first == second
    assert {each.kind for each in first} == {each.kind for each in faults}
    assert len(first) < len(faults) / 2


@pytest.mark.parametrize("mode", ["hf_sdpa", "bridge", "bridge_compat"])
def test_every_small_fault_of_the_loudest_kinds_is_caught_in_exact_mode(mode):
    cell = Cell(case=Case(family="llama", variant="gqa"), loading_mode=mode, dtype="exact")
    kinds = frozenset({"attention scale", "rotary", "head order"})
    found = list(examine_cell(cell, References(), kinds=kinds, every=True))
    counted = [each for each in found if each.result not in {"idle", "void"}]
    assert {each.kind for each in counted} == kinds
    assert {each.result for each in counted} == {"caught"}


def test_the_bank_has_a_fault_of_every_class_that_it_names():
    had = set()
    eager = ("gpt2", "gemma2", "bloom", "mixtral", "gpt_oss", "granite")
    for family, mode in (*((name, "hf_eager") for name in eager), ("gpt2", "bridge")):
        cell = Cell(case=Case(family=family), loading_mode=mode, dtype="exact")
        checkpoint = References().of(cell).checkpoint
        had |= {each.kind for each in faults_of(body_of(load_port(cell, checkpoint)))}
    assert had == set(KINDS)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_probe_sees_what_a_comparison_cannot(family):
    found = list(examine(Case(family=family), "exact", ("hf_eager",)))
    assert {each.probe for each in found} == {
        "cached_decoding",
        "causality",
        "repeatability",
        "save_load",
    }
    assert {each.result for each in found} <= {"caught", "elsewhere"}


def test_what_the_bridge_makes_of_a_text_is_asked_of_it():
    found = list(examine(Case(family="gpt2"), "exact", ("bridge",), kinds=BOS))
    assert {(each.probe, each.expected, each.result) for each in found} == {
        ("tokens", "tokens", "caught")
    }
    assert len(found) == 3


def test_threads_are_as_many_as_before():
    before = torch.get_num_threads()
    with on_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_nothing_named_is_every_native_family_in_every_dtype():
    parts = parts_of(dtypes=("exact",))
    assert {"gpt2", "llama", "t5"} <= {part.case.family for part in parts}
    assert "chatglm" not in {part.case.family for part in parts}
