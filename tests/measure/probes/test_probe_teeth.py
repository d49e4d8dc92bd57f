"""A fault planted for each question of one model alone: caught by its check; else silence."""

from dataclasses import replace

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from harness.case import Case, Cell, Limitation
from harness.errors import Refused
from harness.measure.kept import KeptPort
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.ports import load_port
from harness.models.ports.asking import PLAIN, Asking

BARE = Plan(drawn=1, shrink_seconds=0.0)


@pytest.fixture(scope="module")
def references():
    return References()


class Faulty:
    """A port that is asked otherwise than it was, or whose tensors are changed on the way out."""

    def __init__(self, runner, *, ask=None, change=None) -> None:
        self.runner, self.ask, self.change = runner, ask, change
        self.sites, self.passed_through = runner.sites, runner.passed_through

    def run(self, prompt, sites, asking=PLAIN):
        asked = asking if self.ask is None else self.ask(self, prompt, asking)
        taken = self.runner.run(prompt, sites, asked)
        return taken if self.change is None else self.change(taken)


def measured(cell, references, plan=BARE, **fault):
    def load(cell, checkpoint):
        return Faulty(load_port(cell, checkpoint), **fault)

    return measure_cell(cell, run_id="r", references=references, plan=plan, load=load)


def cell_of(probe, family="gpt2", *, variant="default", mode="hf_eager", dtype="exact", known=()):
    case = Case(family=family, variant=variant, limitations=known)
    return Cell(case=case, loading_mode=mode, dtype=dtype, probe=probe)


def written(asking, **edits):
    return replace(asking, edits=edits)


def looks_everywhere(pattern):
    return torch.full_like(pattern, 1 / pattern.shape[-1])


def mask_dropped_if_attentions_are_asked_for(_, __, asking):
    if "attentions" not in asking.outputs:
        return asking
    return written(asking, **{"blocks.0.attn.pattern": looks_everywhere})


def state_kept_from_the_last_forward(port, prompt, asking):
    before, port.seen = getattr(port, "seen", 0.0), float(len(prompt.tokens[0]))
    return written(asking, **{"blocks.1.mlp_out": lambda tensor: tensor + 1e-6 * before})


def state_kept_from_the_longest_forward(port, prompt, asking):
    port.seen = max(getattr(port, "seen", 0), len(prompt.tokens[0]))
    return written(asking, **{"blocks.1.mlp_out": lambda tensor: tensor + 1e-6 * port.seen})


def rows_mixed(_, __, asking):
    return written(asking, **{"blocks.0.attn_out": lambda tensor: tensor - 1e-3 * tensor.mean(0)})


def positions_counted_over_pads(_, __, asking):
    return replace(asking, positions=False)


def pads_looked_at(_, prompt, asking):
    return Asking(mask=False, positions=asking.positions) if prompt.padded else asking


def residual_added_before_the_hook(taken):
    if "blocks.1.attn_out" in taken:
        taken["blocks.1.attn_out"] = taken["blocks.1.attn_out"] + taken["blocks.1.resid_pre"]
    return taken


def next_block_reads_another_stream(taken):
    if "blocks.1.resid_pre" in taken:
        taken["blocks.1.resid_pre"] = taken["blocks.1.resid_pre"] * (1 + 1e-9)
    return taken


def pattern_changed(change):
    def changed(taken):
        if "blocks.1.attn.pattern" in taken:
            taken["blocks.1.attn.pattern"] = change(taken["blocks.1.attn.pattern"].clone())
        return taken

    return changed


def a_part_lost(pattern):
    return pattern * 0.999


def window_wider_by_one(pattern):
    n = pattern.shape[-1]
    past = torch.ones(n, n, dtype=torch.bool).tril(-6) & ~torch.ones(n, n, dtype=torch.bool).tril(
        -7
    )
    moved = pattern * 0.99 + past * 1e-6
    return moved / moved.sum(-1, keepdim=True)


def window_narrower_by_one(pattern):
    n = pattern.shape[-1]
    kept = ~torch.ones(n, n, dtype=torch.bool).tril(-5)
    return pattern * kept / (pattern * kept).sum(-1, keepdim=True)


FAULTS = {
    "mask dropped only when attentions are asked for, seen by causality": (
        cell_of("causality"),
        {"ask": mask_dropped_if_attentions_are_asked_for},
        "attentions asked for",
        "blocks.0.attn.z",
    ),
    "mask dropped only when attentions are asked for, seen by the observer": (
        cell_of("observer"),
        {"ask": mask_dropped_if_attentions_are_asked_for},
        "attentions asked for",
        "blocks.0.attn.pattern",
    ),
    "state kept from the last forward": (
        cell_of("repeatability"),
        {"ask": state_kept_from_the_last_forward},
        "again; after other prompts",
        "blocks.1.mlp_out",
    ),
    "state kept from the longest forward": (
        cell_of("repeatability"),
        {"ask": state_kept_from_the_longest_forward},
        "after other prompts",
        "blocks.1.mlp_out",
    ),
    "rows of a batch mixed": (
        cell_of("batch"),
        {"ask": rows_mixed},
        "the first row alone; the last row alone",
        "blocks.0.attn_out",
    ),
    "positions counted over pads": (
        cell_of("padding"),
        {"ask": positions_counted_over_pads},
        "left, positions given; left, positions not given",
        "pos_embed",
    ),
    "pads looked at": (
        cell_of("padding", "llama"),
        {"ask": pads_looked_at},
        "left, positions given; left, positions not given",
        "blocks.0.attn.pattern",
    ),
    "residual added before the hook": (
        cell_of("residual"),
        {"change": residual_added_before_the_hook},
        "branches add up",
        "blocks.1.attn_out",
    ),
    "the next block reads another stream": (
        cell_of("residual"),
        {"change": next_block_reads_another_stream},
        "branches add up; blocks follow",
        "blocks.1.resid_pre",
    ),
    "a part of the pattern lost": (
        cell_of("pattern"),
        {"change": pattern_changed(a_part_lost)},
        "rows sum to 1",
        "blocks.1.attn.pattern",
    ),
    "window wider by one": (
        cell_of("pattern", "mistral", variant="window"),
        {"change": pattern_changed(window_wider_by_one)},
        "nothing where it may not look",
        "blocks.1.attn.pattern",
    ),
    "window narrower by one": (
        cell_of("pattern", "mistral", variant="window"),
        {"change": pattern_changed(window_narrower_by_one)},
        "something wherever it may look",
        "blocks.1.attn.pattern",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_by_its_check_at_its_first_site(name, references):
    cell, fault, checks, site = FAULTS[name]
    found = measured(cell, references, **fault)
    assert found.verdict == "fail", found.row["reason"]
    assert found.row["failing_checks"] == checks
    assert found.row["first_site"] == site


CLEAN = ("causality", "observer", "repeatability", "batch", "padding", "residual", "pattern")


@pytest.mark.parametrize("dtype", ["exact", "float32"])
@pytest.mark.parametrize(
    ("family", "variant"), [("llama", "gqa"), ("mistral", "window"), ("mixtral", "default")]
)
def test_without_a_fault_nothing_is_said(family, variant, dtype, references):
    port = KeptPort()
    for probe in CLEAN:
        cell = cell_of(probe, family, variant=variant, dtype=dtype)
        found = measure_cell(cell, run_id="r", references=references, plan=BARE, load=port)
        assert (found.verdict, found.row["reason"]) == ("pass", None)
        assert found.deltas


KNOWN = Limitation(
    outcome="differs",
    probes=("padding",),
    checks=("left, positions not given",),
    sites=("pos_embed",),
    reason="a test",
    link="docs/none.md",
    until="torch<0",
)


def test_a_check_that_a_limitation_speaks_of_is_known_and_another_beside_it_fails(references):
    cell = cell_of("padding", known=(KNOWN,))
    assert measured(cell, references).verdict == "known"
    both = measured(cell, references, ask=positions_counted_over_pads)
    assert both.verdict == "fail"
    assert "left, positions given: first at pos_embed" in both.row["reason"]


def test_a_limitation_of_a_probe_that_is_true_no_more_is_stale(references):
    cell = cell_of("padding", "llama", known=(KNOWN,))
    assert measured(cell, references).verdict == "stale"


def test_a_limitation_at_another_site_excuses_nothing(references):
    elsewhere = replace(KNOWN, sites=("logits",))
    assert measured(cell_of("padding", known=(elsewhere,)), references).verdict == "fail"


def test_what_failed_before_a_check_raised_is_told_and_a_check_that_only_raises_is_an_error(
    references,
):
    def raising(_, __, asking):
        if asking.cache is not None:
            raise ValueError("no cache today")
        return mask_dropped_if_attentions_are_asked_for(_, __, asking)

    def only_raising(_, __, asking):
        return raising(_, __, replace(asking, outputs=()))

    both = measured(cell_of("observer"), references, ask=raising)
    assert (both.verdict, both.row["first_site"]) == ("fail", "blocks.0.attn.pattern")
    assert "no cache today" in both.row["reason"]
    assert both.row["failing_checks"].endswith("; a check raised")
    alone = measured(cell_of("observer"), references, ask=only_raising)
    assert (alone.verdict, "no cache today" in alone.row["reason"]) == ("error", True)


@pytest.mark.parametrize("first", ["on the same prompt", "on the prompt before"])
def test_what_failed_before_the_model_refused_is_not_taken_back(references, first):
    def refusing(_, prompt, asking):
        if asking.cache is not None and (first == "on the same prompt" or len(prompt.tokens) > 1):
            raise Refused("no cache, ever")
        return mask_dropped_if_attentions_are_asked_for(_, prompt, asking)

    found = measured(cell_of("observer"), references, ask=refusing)
    assert (found.verdict, found.row["first_site"]) == ("fail", "blocks.0.attn.pattern")
    assert "no cache, ever" in found.row["reason"]


def test_a_model_that_refuses_where_nothing_failed_is_unavailable(references):
    def refusing(_, __, asking):
        if asking.cache is not None:
            raise Refused("no cache, ever")
        return asking

    found = measured(cell_of("observer"), references, ask=refusing)
    assert (found.verdict, found.row["reason"]) == ("unavailable", "no cache, ever")


@pytest.mark.parametrize("lost", [(), ("blocks.1.hook_mlp_out",)])
def test_a_hook_that_fires_and_is_not_in_the_cache_is_told(references, monkeypatch, lost):
    run = TransformerBridge.run_with_cache

    def forgetting(self, *given, **named):
        logits, cache = run(self, *given, **named)
        for name in lost:
            del cache.cache_dict[name]
        return logits, cache

    monkeypatch.setattr(TransformerBridge, "run_with_cache", forgetting)
    cell = replace(cell_of("observer"), loading_mode="bridge")
    found = measure_cell(cell, run_id="r", references=references, plan=BARE)
    told = {row["site"] for row in found.deltas if row["verdict"] == "fail"}
    assert (found.verdict, told) == (("fail", {"blocks.1.mlp_out"}) if lost else ("pass", set()))


def test_a_failure_is_cut_down_to_a_small_prompt(references):
    plan = Plan(drawn=0, shrink_seconds=10.0)
    found = measured(
        cell_of("causality"), references, plan, ask=mask_dropped_if_attentions_are_asked_for
    )
    (smallest,) = [row for row in found.prompts if row["prompt_id"] == found.row["first_prompt_id"]]
    assert (smallest["origin"], len(smallest["tokens"])) == ("shrunk", 1)
    assert len(smallest["tokens"][0]) <= 3


def test_a_model_that_owes_nothing_says_so(references):
    found = measured(cell_of("causality", "bert"), references)
    assert (found.verdict, "reads both ways" in found.row["reason"]) == ("unavailable", True)


def test_what_is_raised_while_a_smaller_prompt_is_looked_for_is_not_held_against_the_model(
    references,
):
    def raising_on_short_ones(port, prompt, asking):
        if len(prompt.tokens[0]) < 3:
            raise ValueError("too short")
        return mask_dropped_if_attentions_are_asked_for(port, prompt, asking)

    plan = Plan(drawn=0, shrink_seconds=5.0)
    found = measured(cell_of("causality"), references, plan, ask=raising_on_short_ones)
    assert (found.verdict, "too short" in found.row["reason"]) == ("fail", False)
