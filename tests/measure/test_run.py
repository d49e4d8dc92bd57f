import math

import pytest
import torch

from harness.case import Case, Cell, Limitation, Prompt
from harness.errors import Refused, Unavailable
from harness.measure import comparer
from harness.measure.outcome import largest
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.ports import load_port
from harness.record import table_of

SITE, LATER = "blocks.1.mlp_out", "blocks.2.mlp_out"
PROMPTS = (
    Prompt.unpadded(((5, 6, 7), (8, 9, 10)), origin="a test"),
    Prompt.unpadded(((11, 12, 13, 14, 15),), origin="a test"),
)
PLAN = Plan(prompts=PROMPTS, shrink_seconds=0.0)


class Planted:
    """The port `hf_sdpa`, whose tensors pass through a change, and with sites of one's own."""

    def __init__(self, cell, checkpoint, change, sites=None) -> None:
        self.runner, self.change = load_port(cell, checkpoint), change
        self.sites = self.runner.sites if sites is None else sites
        self.passed_through = self.runner.passed_through

    def run(self, prompt, sites):
        return self.change(self.runner.run(prompt, sites))


def planted(change, **more):
    """Give a function that loads the port with a change of its tensors planted."""
    return lambda cell, checkpoint: Planted(cell, checkpoint, change, **more)


def moved(*sites, by=1e-3):
    """Plant a shift of one element at sites, for the hooks alone: nothing after them moves."""

    def change(taken):
        for site in sites:
            if site in taken:
                taken[site][0, 0, 0] += by
        return taken

    return planted(change)


def changed_at(site, change):
    return planted(lambda taken: {**taken, site: change(taken[site])})


def raising(error):
    def change(_):
        raise error

    return planted(change)


def limitation(outcome, *sites, words=""):
    return Limitation(
        outcome=outcome,
        reason=f"it {outcome}",
        link=f"docs/{outcome}.md",
        until="pytest>9999",
        sites=sites,
        words=words,
    )


@pytest.fixture(scope="module")
def measured():
    """Give a function that measures gpt2's cell, with a port and limitations of one's own."""
    references = References()

    def measure(load=load_port, *limitations, dtype="exact", plan=PLAN, device="cpu"):
        case = Case(family="gpt2", limitations=limitations)
        cell = Cell(case=case, loading_mode="hf_sdpa", dtype=dtype, device=device)
        return measure_cell(cell, run_id="a-run", references=references, plan=plan, load=load)

    return measure


def first_failure(result):
    return result.verdict, result.row["first_site"]


@pytest.mark.parametrize("dtype", ["exact", "float32", "bfloat16"])
def test_a_port_that_agrees_passes_and_there_is_nothing_to_say(dtype, measured):
    result = measured(dtype=dtype)
    assert first_failure(result) == ("pass", None)
    assert (result.row["reason"], result.row["limitation"]) == (None, None)
    assert {row["verdict"] for row in result.deltas} == {"pass"}


@pytest.mark.parametrize("load", [load_port, moved(SITE), raising(ValueError("broken"))])
def test_whatever_comes_of_a_cell_its_rows_can_be_written(load, measured):
    result = measured(load)
    assert len(table_of("cells", [result.row])) == 1
    assert len(table_of("deltas", result.deltas)) == len(result.deltas)
    assert len(table_of("prompts", result.prompts)) > 0
    for rows in result.fingerprints.values():
        assert len(table_of("fingerprints", rows)) == len(rows)


def test_there_is_a_row_for_every_prompt_and_site(measured):
    result = measured()
    assert len(result.deltas) == len(PROMPTS) * result.row["sites_compared"]
    assert result.row["n_prompts"] == len(result.prompts) == len(PROMPTS)


@pytest.mark.parametrize("dtype", ["exact", "float32"])
def test_a_planted_difference_fails_at_its_site_and_nowhere_else(dtype, measured):
    result = measured(moved(SITE), dtype=dtype)
    assert first_failure(result) == ("fail", SITE)
    assert {row["site"] for row in result.deltas if row["verdict"] == "fail"} == {SITE}


@pytest.mark.parametrize("dtype", ["exact", "float32"])
def test_a_planted_difference_is_not_excused_where_all_is_forced_to_be_equal(dtype, measured):
    plan = Plan(prompts=PROMPTS, shrink_seconds=0.0, relation="equal")
    result = measured(moved(SITE), dtype=dtype, plan=plan)
    assert first_failure(result) == ("fail", SITE)
    assert {row["agrees_as"] for row in result.deltas} == {None}


def test_of_two_differences_the_first_in_forward_order_is_named(measured):
    assert first_failure(measured(moved(LATER, SITE))) == ("fail", SITE)


@pytest.mark.parametrize("dtype", ["exact", "float32", "bfloat16"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [(0, 0, 0), ...], ids=["one value", "all values"])
def test_a_value_that_is_not_finite_fails_at_its_site(where, value, dtype, measured):
    def spoil(tensor):
        tensor[where] = value
        return tensor

    result = measured(changed_at(SITE, spoil), dtype=dtype)
    assert first_failure(result) == ("fail", SITE)
    worst = max(row["nonfinite"] for row in result.deltas if row["site"] == SITE)
    assert worst == (1 if where == (0, 0, 0) else 6 * 20)


@pytest.mark.parametrize("values", [(math.nan, 1.0), (1.0, math.nan), (math.inf, math.nan)])
def test_the_largest_is_no_number_wherever_one_is_none(values):
    # An error ratio is none where the reference and the port are both infinitely wrong.
    assert math.isnan(largest(values))
    assert (largest((1.0, 3.0, 2.0)), largest(())) == (3.0, None)


def test_a_tensor_of_another_shape_is_an_error_that_names_its_site(measured):
    result = measured(changed_at(SITE, lambda tensor: tensor.transpose(1, 2)))
    assert result.verdict == "error"
    assert f"{SITE}: the port's tensor is 2x20x3, the reference's 2x3x20" in result.row["reason"]


def test_a_site_that_the_port_lacks_is_listed_as_missing(measured):
    result = measured(planted(lambda taken: taken, sites=("embed", "logits")))
    assert (result.verdict, result.row["sites_compared"]) == ("pass", 2)
    assert SITE in result.row["missing_sites"].split()


def test_a_site_that_does_not_fire_is_an_error_that_names_it(measured):
    lost = planted(lambda taken: {site: taken[site] for site in taken if site != SITE})
    result = measured(lost)
    assert result.verdict == "error"
    assert f"did not fire: {SITE}" in result.row["reason"]


def test_where_nothing_is_compared_there_is_no_pass(measured):
    without_sites = measured(planted(lambda taken: taken, sites=()))
    without_prompts = measured(plan=Plan(prompts=()))
    for result in (without_sites, without_prompts):
        assert result.verdict == "error"
        assert "nothing" in result.row["reason"]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ZeroDivisionError("by zero"), "error"),
        (Unavailable("no such machine"), "unavailable"),
        (Refused("does not support this"), "unavailable"),
    ],
)
def test_a_port_that_raises_has_a_verdict_and_a_reason(error, verdict, measured):
    result = measured(raising(error))
    assert result.verdict == verdict
    assert str(error) in result.row["reason"]
    assert (result.deltas, result.row["sites_compared"]) == ((), 0)


def test_a_port_that_cannot_be_loaded_is_an_error(measured):
    def load(_, __):
        raise OSError("no such file")

    assert measured(load).verdict == "error"


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_makes_a_cell_unavailable(device, measured):
    if getattr(torch, device).is_available():
        pytest.skip(f"this machine has {device}")
    result = measured(device=device)
    assert result.verdict == "unavailable"
    assert f"no {device} device" in result.row["reason"]
    assert result.row["sites_compared"] == 0


def test_a_known_difference_at_its_site_is_known(measured):
    result = measured(moved(SITE), limitation("differs", SITE))
    assert (result.verdict, result.row["reason"]) == ("known", "it differs")
    assert result.row["limitation"] == "docs/differs.md"


def test_a_known_difference_that_comes_at_an_earlier_site_fails(measured):
    result = measured(moved(SITE, LATER), limitation("differs", LATER))
    assert first_failure(result) == ("fail", SITE)


@pytest.mark.parametrize(
    "item", [limitation("differs", SITE), limitation("local", SITE), limitation("raises")]
)
def test_a_limitation_of_a_port_that_agrees_is_stale(item, measured):
    result = measured(load_port, item)
    assert result.verdict == "stale"
    assert item.reason in result.row["reason"]


def test_a_local_limitation_hides_its_own_site(measured):
    assert measured(moved(SITE), limitation("local", SITE)).verdict == "known"


def test_a_local_limitation_hides_no_other_site(measured):
    result = measured(moved(SITE, LATER), limitation("local", SITE))
    assert first_failure(result) == ("fail", LATER)


@pytest.mark.parametrize(("words", "verdict"), [("by zero", "known"), ("by two", "error")])
def test_an_error_is_known_by_its_words_alone(words, verdict, measured):
    item = limitation("raises", words=words)
    assert measured(raising(ZeroDivisionError("by zero")), item).verdict == verdict


def test_a_hook_that_never_fires_is_known_and_leaves_the_others_judged(measured):
    item = limitation("silent", SITE)
    lost = planted(lambda taken: {site: taken[site] for site in taken if site != SITE})
    result = measured(lost, item)
    assert result.verdict == "known"
    assert SITE in result.row["missing_sites"].split()


def test_a_hook_that_never_fires_hides_no_other_fault(measured):
    def change(taken):
        taken = {site: taken[site] for site in taken if site != SITE}
        return {site: values + (site == LATER) for site, values in taken.items()}

    result = measured(planted(change), limitation("silent", SITE))
    assert first_failure(result) == ("fail", LATER)


def test_a_hook_that_was_said_never_to_fire_and_does_is_stale(measured):
    result = measured(load_port, limitation("silent", SITE))
    assert result.verdict == "stale"
    assert SITE in result.row["reason"]


def test_a_failure_is_cut_down_and_its_smallest_prompt_is_kept_with_its_rows(measured):
    plan = Plan(prompts=PROMPTS, shrink_seconds=5.0)
    result = measured(moved(SITE), plan=plan)
    smallest = result.row["first_prompt_id"]
    prompt = next(row for row in result.prompts if row["prompt_id"] == smallest)
    assert (prompt["tokens"], prompt["origin"]) == ([[0]], "shrunk")
    rows = [row for row in result.deltas if row["prompt_id"] == smallest]
    assert {row["site"] for row in rows if row["verdict"] == "fail"} == {SITE}
    assert len(rows) == result.row["sites_compared"]


def test_a_smallest_prompt_that_was_run_already_is_named_and_not_run_twice(measured):
    zero = Prompt.unpadded(((0,),), origin="a test")
    one = Prompt.unpadded(((1,),), origin="a test")
    result = measured(moved(SITE), plan=Plan(prompts=(one, zero), shrink_seconds=5.0))
    assert result.row["first_prompt_id"] == zero.prompt_id
    assert result.row["n_prompts"] == 2


def test_a_known_difference_is_not_cut_down(measured):
    plan = Plan(prompts=PROMPTS, shrink_seconds=5.0)
    assert measured(moved(SITE), limitation("differs", SITE), plan=plan).row["n_prompts"] == 2


def test_the_relation_that_still_holds_is_said(measured):
    doubled = measured(changed_at(SITE, lambda tensor: tensor * 2))
    assert doubled.row["tightest_relation"] == "differs by one factor: reference = 0.5 × port"


def prints_of(result, part="gpt2-default.hf_sdpa.exact"):
    return {(row["site"], row["relation"]): row for row in result.fingerprints[part]}


def test_every_site_of_the_reference_is_fingerprinted_and_of_the_port_what_was_compared(measured):
    result = measured(planted(lambda taken: taken, sites=("embed", "logits")))
    assert {site for site, _ in prints_of(result)} == {"embed", "logits"}
    sites = {site for site, _ in prints_of(result, "gpt2-default.exact.reference")}
    assert {SITE, "embed", "logits", "blocks.0.attn.pattern"} <= sites


def test_the_oracle_of_a_low_dtype_is_the_reference_of_exact_mode(measured):
    parts = measured(dtype="float32").fingerprints
    assert set(parts) == {
        "gpt2-default.hf_sdpa.float32",
        "gpt2-default.float32.reference",
        "gpt2-default.exact.reference",
    }
    exact = measured().fingerprints["gpt2-default.exact.reference"]
    assert [row["digest"] for row in parts["gpt2-default.exact.reference"]] == [
        row["digest"] for row in exact
    ]


def test_a_port_that_agrees_keeps_no_sketch_and_one_that_does_not_keeps_that_of_its_distance(
    measured,
):
    for load, kept in ((load_port, False), (moved(SITE), True)):
        row = prints_of(measured(load))[SITE, "equal"]
        assert (row["failed"], row["difference_sketch"] is not None) == (kept, kept)
        assert row["sketch"] is None


def test_the_bank_is_fingerprinted_and_what_is_drawn_or_cut_down_is_not(measured):
    result = measured(moved(SITE), plan=Plan(drawn=1, shrink_seconds=2.0))
    by_origin = {row["origin"].partition(":")[0]: row["fingerprinted"] for row in result.prompts}
    assert by_origin == {"bank": True, "hypothesis": False, "shrunk": False}


def test_other_prompts_and_other_weights_are_other_questions(measured):
    few = measured(plan=Plan(prompts=PROMPTS[:1], shrink_seconds=0.0))
    asked = {row["question"] for result in (measured(), few) for row in prints_of(result).values()}
    assert len(asked) == 2


def test_the_bank_and_the_drawn_prompts_are_the_same_for_every_cell(measured):
    plan = Plan(drawn=2, seed=7, shrink_seconds=0.0)
    asked = [
        [row["prompt_id"] for row in measured(dtype=dtype, plan=plan).prompts]
        for dtype in ("exact", "float32")
    ]
    assert asked[0] == asked[1]
    assert len(set(asked[0])) == len(asked[0]) > 5


@pytest.mark.parametrize("mode", ["hf_sdpa", "bridge", "bridge_compat"])
@pytest.mark.parametrize("dtype", ["exact", "float32"])
def test_a_port_compared_as_it_fires_gives_the_rows_of_one_that_is_captured(
    mode, dtype, monkeypatch
):
    cell = Cell(case=Case(family="gpt2"), loading_mode=mode, dtype=dtype)

    def measured():
        references = References()
        return measure_cell(cell, run_id="a-run", references=references, plan=PLAN)

    whole = measured()
    monkeypatch.setattr(comparer, "LARGE", 0)
    handed = []
    monkeypatch.setattr(comparer, "capture_each", spy(comparer.capture_each, handed))
    fired = measured()
    assert len(handed) == len(PROMPTS)
    assert fired.deltas == whole.deltas
    assert fired.fingerprints == whole.fingerprints


@pytest.mark.parametrize("dtype", ["exact", "float32"])
def test_a_fault_in_a_port_compared_as_it_fires_is_named_at_its_first_site(dtype, monkeypatch):
    monkeypatch.setattr(comparer, "LARGE", 0)

    def load(cell, checkpoint):
        runner = load_port(cell, checkpoint)
        with torch.no_grad():
            runner.model.transformer.h[1].mlp.c_fc.bias[0] += 1e-3
        return runner

    cell = Cell(case=Case(family="gpt2"), loading_mode="hf_sdpa", dtype=dtype)
    found = measure_cell(cell, run_id="r", references=References(), plan=PLAN, load=load)
    assert first_failure(found) == ("fail", "blocks.1.mlp.pre")


def spy(function, calls):
    """Give the function, noting each call of it."""

    def noted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return noted
