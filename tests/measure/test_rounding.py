import math

import pytest
import torch

from harness.case import Case, Cell, Prompt
from harness.measure import rounding
from harness.measure.comparer import CellComparer
from harness.measure.references import References
from harness.measure.relations import EQUAL
from harness.measure.rounding import MOVED, rounded_otherwise, spread_at
from harness.measure.routing import NO_FLIPS, Flips, chooses_unseen
from harness.models.ports import load_port

SITE = "blocks.1.mlp_out"
STEADY = Prompt.unpadded((tuple(range(5, 42)),), origin="a test")


@pytest.fixture(scope="module")
def references():
    return References()


@pytest.fixture
def experts(references):
    return references.of(
        Cell(case=Case(family="qwen2_moe"), loading_mode="hf_sdpa", dtype="float32")
    )


def cancelling(reference):
    """Give the single token at which the site's terms cancel most: rounding goes furthest."""
    singles = [Prompt.unpadded(((token,),), origin="a test") for token in range(4, 67)]
    return max(singles, key=lambda each: spread_at(reference, each, {SITE: EQUAL})[SITE])


def comparer_of(references, *, prompts, family="qwen2_moe", dtype="float32"):
    cell = Cell(case=Case(family=family), loading_mode="hf_sdpa", dtype=dtype)
    reference = references.of(cell)
    port = load_port(cell, reference.checkpoint)
    comparer = CellComparer(cell, reference=reference, port=port)
    comparer.learn_typical_errors(prompts, [comparer.distances(prompt) for prompt in prompts])
    return comparer


def verdict_on(comparer, prompt, *, error, **changes):
    """Judge the prompt's row at the site as if the port had been so far off."""
    row = next(row for row in comparer.distances(prompt) if row["site"] == SITE)
    (judged,) = comparer.judged_on(
        prompt, [{**row, "port_error": error, "rel_l2": error, **changes}]
    )
    return judged["verdict"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_some_values_become_their_neighbours_and_no_other_changes(dtype):
    model = torch.nn.Sequential(torch.nn.Linear(20, 500), torch.nn.Tanh()).to(dtype)
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(20, 20, generator=generator).to(dtype)
    plain = model[0](given)
    with torch.no_grad(), rounded_otherwise(model[0], seed=0):
        moved = model[0](given)
    steps = moved.view(torch.int32 if dtype == torch.float32 else torch.int16).long()
    steps = steps - plain.view(torch.int32 if dtype == torch.float32 else torch.int16).long()
    assert set(steps.unique().tolist()) == {-1, 0, 1}
    assert float((steps != 0).float().mean()) == pytest.approx(MOVED, abs=0.02)
    assert abs(float(steps.float().mean())) < 0.02  # standard error 0.005


def test_a_model_is_as_before_behind_it_even_if_it_raised():
    model = torch.nn.Linear(3, 3)
    with pytest.raises(KeyError), rounded_otherwise(model, seed=0):
        raise KeyError
    assert not model._forward_hooks


def test_what_is_not_finite_stays_as_it_is():
    class Masks(torch.nn.Module):
        def forward(self, given):
            return given

    values = torch.tensor([math.inf, -math.inf, math.nan]).repeat(200)
    model = Masks()
    with rounded_otherwise(model, seed=0):
        assert torch.equal(model(values).nan_to_num(), values.nan_to_num())


def test_where_terms_cancel_rounding_goes_further_than_it_typically_does(experts):
    prompt = cancelling(experts)
    spread = spread_at(experts, prompt, {SITE: EQUAL})[SITE]
    assert spread > 2 * spread_at(experts, STEADY, {SITE: EQUAL})[SITE]


def test_a_row_that_rounding_explains_on_its_prompt_is_not_red(references, experts):
    prompt = cancelling(experts)
    comparer = comparer_of(references, prompts=[STEADY])
    here, usual = (spread_at(experts, each, {SITE: EQUAL})[SITE] for each in (prompt, STEADY))
    typical = comparer.typical_error(SITE)
    explained = typical * here / usual
    few = {"reference_error": typical, "chance_factor": 1.0}
    assert verdict_on(comparer, prompt, error=3.9 * explained, **few) == "pass"
    assert verdict_on(comparer, prompt, error=4.1 * explained, **few) == "fail"
    assert verdict_on(comparer, STEADY, error=3.9 * explained, **few) == "fail"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_where_rounding_goes_as_far_as_typically_the_bound_is_what_it_was(references, dtype):
    comparer = comparer_of(references, prompts=[STEADY], family="gpt2", dtype=dtype)
    few = {"reference_error": 0.0, "chance_factor": 1.0}
    typical = comparer.typical_error(SITE)
    assert verdict_on(comparer, STEADY, error=3.9 * typical, **few) == "pass"
    assert verdict_on(comparer, STEADY, error=4.1 * typical, **few) == "fail"


def test_what_no_rounding_explains_is_red_and_rounding_is_not_asked(references, monkeypatch):
    comparer = comparer_of(references, prompts=[STEADY])
    monkeypatch.setattr("harness.measure.comparer.spread_at", None)
    assert verdict_on(comparer, STEADY, error=1e-2) == "fail"


def test_in_exact_mode_rounding_is_no_excuse(references, monkeypatch):
    comparer = comparer_of(references, prompts=[STEADY], dtype="exact")
    monkeypatch.setattr("harness.measure.comparer.spread_at", None)
    assert verdict_on(comparer, STEADY, error=1e-9) == "fail"


def test_a_row_behind_a_token_that_went_elsewhere_is_not_excused(references, monkeypatch):
    comparer = comparer_of(references, prompts=[STEADY])
    comparer._touched.add((STEADY.prompt_id, SITE))
    monkeypatch.setattr("harness.measure.comparer.spread_at", None)
    assert verdict_on(comparer, STEADY, error=1e-4) == "fail"


def test_a_run_in_which_a_token_goes_to_another_expert_excuses_nothing(monkeypatch):
    cell = Cell(case=Case(family="mixtral"), loading_mode="hf_eager", dtype="bfloat16")
    reference = References().of(cell)
    rows = [tuple((7 * place + by) % 67 for place in range(37)) for by in range(3)]
    prompts = [Prompt.unpadded((row,), origin="a test") for row in rows]
    kept = max(spread_at(reference, each, {SITE: EQUAL})[SITE] for each in prompts)
    reference.spreads.clear()
    monkeypatch.setattr(rounding, "flips_between", lambda *_args, **_: NO_FLIPS)
    with_flips = max(spread_at(reference, each, {SITE: EQUAL})[SITE] for each in prompts)
    assert with_flips > 3 * kept


def test_a_router_that_has_chosen_keeps_the_logits_that_it_chose_by():
    class Router(torch.nn.Module):
        def forward(self, given):
            scores, indices = given.topk(2, dim=-1)
            return given, scores, indices

    given = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    router = Router()
    with rounded_otherwise(router, seed=0):
        logits, scores, indices = router(given)
    assert torch.equal(logits, given)
    assert not torch.equal(scores, given.gather(-1, indices))


@pytest.mark.parametrize(
    ("family", "fields", "unseen"),
    [
        ("qwen2_moe", {}, False),
        ("qwen2_moe", {"num_experts_per_tok": None}, True),
        ("qwen2_moe", {"num_experts_per_tok": None, "moe_topk": 2}, False),
        ("gpt2", {}, False),
        ("gpt2", {"n_routed_experts": 4}, True),
        ("gpt2", {"index_topk": 8}, True),
        ("doge", {}, True),
    ],
)
def test_what_chooses_by_numbers_that_no_site_shows_excuses_nothing(
    references, monkeypatch, family, fields, unseen
):
    cell = Cell(case=Case(family=family), loading_mode="hf_sdpa", dtype="float32")
    reference = references.of(cell)
    monkeypatch.setattr(type(reference), "config", {**reference.config, **fields})
    assert chooses_unseen(reference) is unseen
    reference.spreads.clear()
    assert (spread_at(reference, STEADY, {SITE: EQUAL})[SITE] == 0.0) is unseen
    reference.spreads.clear()


def test_where_every_run_sends_a_token_elsewhere_there_is_no_excuse(experts, monkeypatch):
    everywhere = Flips(first={1: torch.tensor([0])}, length=37, number=1)
    monkeypatch.setattr(rounding, "flips_between", lambda *_args, **_: everywhere)
    prompt = Prompt.unpadded((STEADY.tokens[0][::-1],), origin="a test")
    assert spread_at(experts, prompt, {SITE: EQUAL}) == {SITE: 0.0}


def test_the_largest_number_does_not_become_infinite():
    largest = torch.full((400,), torch.finfo(torch.bfloat16).max, dtype=torch.bfloat16)
    model = torch.nn.Tanhshrink()
    with rounded_otherwise(model, seed=0):
        assert model(largest).isfinite().all()


def test_a_run_that_is_not_finite_excuses_nothing(references, monkeypatch):
    comparer = comparer_of(references, prompts=[STEADY])
    comparer.reference.spreads.clear()
    monkeypatch.setattr(rounding, "relative_distance", lambda *_args, **_: math.inf)
    assert verdict_on(comparer, STEADY, error=1e-4) == "fail"
    assert comparer.reference.spreads[STEADY.prompt_id, SITE, EQUAL.kind] == 0.0
    comparer.reference.spreads.clear()


def test_a_prompt_and_site_are_asked_once(experts, monkeypatch):
    first = spread_at(experts, STEADY, {SITE: EQUAL})
    monkeypatch.setattr(rounding, "capture", None)
    assert spread_at(experts, STEADY, {SITE: EQUAL}) == first
