"""Faults planted in a copy of a port: each is caught, at its first site; without it, silence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama

from harness.case import SHRUNK, SYNTHETIC, Case, Cell
from harness.measure.references import References
from harness.measure.run import CellResult, Plan, measure_cell
from harness.models.families.common import WINDOW
from harness.models.ports import load_port

BARE = Plan(drawn=1, shrink_seconds=0.0)


@pytest.fixture(scope="module")
def references() -> References:
    return References()


class Faulty:
    """A port whose run happens inside a context, and whose tensors pass through a change."""

    def __init__(self, runner, context, change) -> None:
        self.runner, self.context, self.change = runner, context, change
        self.sites = runner.sites
        self.passed_through = runner.passed_through

    def run(self, prompt, sites):
        with self.context():
            return self.change(self.runner.run(prompt, sites))


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


def unchanged(taken):
    return taken


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is planted, in which cell, and the site that must be named first."""

    name: str
    family: str
    first_site: str
    variant: str = "default"
    checkpoint: str = SYNTHETIC
    mode: str = "bridge"
    plant: Callable[[Any], None] = lambda _: None
    context: Callable[[], Any] = as_it_is
    change: Callable[[dict], dict] = unchanged

    @property
    def cell(self) -> Cell:
        case = Case(family=self.family, variant=self.variant, checkpoint=self.checkpoint)
        return Cell(case=case, loading_mode=self.mode, dtype="exact")

    def load(self, cell, checkpoint):
        runner = load_port(cell, checkpoint)
        with torch.no_grad():
            self.plant(runner.bridge)
        return Faulty(runner, self.context, self.change)


def hf(component):
    return component.original_component


def one_bias_element(bridge):
    hf(bridge.blocks[1].mlp.out).bias[3] += 1e-4


def eps_in_one_layer(bridge):
    hf(bridge.blocks[1].ln1).variance_epsilon = 1.2e-5


def erf_instead_of_tanh(bridge):
    hf(bridge.blocks[2].mlp).act = torch.nn.GELU()


def neighbouring_pairs(bridge):
    for block in bridge.blocks:
        block.attn.config.rotary_adjacent_pairs = True


@contextmanager
def tiled_instead_of_repeated() -> Iterator[None]:
    def tiled(states, times):
        return states.repeat(1, times, 1, 1)

    kept = modeling_llama.repeat_kv
    modeling_llama.repeat_kv = tiled
    try:
        yield
    finally:
        modeling_llama.repeat_kv = kept


def wider_window(bridge):
    bridge.original_model.config.sliding_window = WINDOW + 1


def softcap_skipped(bridge):
    hf(bridge.blocks[1].attn).attn_logit_softcapping = None


def mask_dropped(bridge):
    def unmasked(_, args, kwargs):
        mask = kwargs["attention_mask"]
        return args, {**kwargs, "attention_mask": torch.zeros_like(mask)}

    bridge.blocks[1].attn.register_forward_pre_hook(unmasked, with_kwargs=True)


def one_left_out(bridge):
    hf(bridge.blocks[1].ln1).weight -= 1.0


def untied(bridge):
    head = hf(bridge.unembed)
    head.weight = torch.nn.Parameter(head.weight.detach().roll(1, dims=0))


def folded_twice(bridge):
    gain = torch.linspace(0.5, 1.5, bridge.cfg.d_model)
    hf(bridge.blocks[0].attn.q).weight *= gain


def sum_instead_of_branch(taken):
    return {**taken, "blocks.1.attn_out": taken["blocks.1.resid_mid"]}


def one_weight_element(bridge):
    hf(bridge.blocks[1].mlp.out).weight[3, 5] += 1e-4


FAULTS = (
    Fault(
        name="one weight element + 1e-4, of a model without a record",
        family="arcee",
        checkpoint=SHRUNK,
        plant=one_weight_element,
        first_site="blocks.1.mlp_out",
    ),
    Fault(
        name="eps 1e-5 -> 1.2e-5 in one layer, of a model without a record",
        family="arcee",
        checkpoint=SHRUNK,
        plant=eps_in_one_layer,
        first_site="blocks.1.ln1.out",
    ),
    Fault(
        name="one bias element + 1e-4",
        family="gpt2",
        plant=one_bias_element,
        first_site="blocks.1.mlp_out",
    ),
    Fault(
        name="eps 1e-5 -> 1.2e-5 in one layer",
        family="llama",
        plant=eps_in_one_layer,
        first_site="blocks.1.ln1.out",
    ),
    Fault(
        name="GELU tanh -> erf in the last layer",
        family="gpt2",
        plant=erf_instead_of_tanh,
        first_site="blocks.2.mlp.post",
    ),
    Fault(
        name="rotary layout",
        family="llama",
        plant=neighbouring_pairs,
        first_site="blocks.0.attn.rot_q",
    ),
    Fault(
        name="GQA repeat order",
        family="llama",
        variant="gqa",
        context=tiled_instead_of_repeated,
        first_site="blocks.0.attn.attn_scores",
    ),
    Fault(
        name="window off by one",
        family="mistral",
        variant="window",
        plant=wider_window,
        first_site="blocks.0.attn.attn_scores",
    ),
    Fault(
        name="softcap skipped",
        family="gemma2",
        plant=softcap_skipped,
        first_site="blocks.1.attn.attn_scores",
    ),
    Fault(
        name="causal mask dropped",
        family="llama",
        plant=mask_dropped,
        first_site="blocks.1.attn.attn_scores",
    ),
    Fault(
        name="(1 + w) -> w",
        family="gemma",
        plant=one_left_out,
        first_site="blocks.1.ln1.out",
    ),
    Fault(
        name="tied embedding untied",
        family="gpt2",
        plant=untied,
        first_site="logits",
    ),
    Fault(
        name="folded twice",
        family="gpt2",
        mode="bridge_compat",
        plant=folded_twice,
        first_site="blocks.0.attn.q",
    ),
    Fault(
        name="hook after instead of before the residual",
        family="gpt2",
        change=sum_instead_of_branch,
        first_site="blocks.1.attn_out",
    ),
)

# Faults of one checkpoint stand together, so that its reference is loaded once.
BY_CHECKPOINT = sorted(FAULTS, key=lambda fault: fault.cell.case.id)


def measured(fault: Fault, references: References, *, plan=BARE, planted=True) -> CellResult:
    load = fault.load if planted else load_port
    return measure_cell(fault.cell, run_id="teeth", references=references, plan=plan, load=load)


@pytest.mark.parametrize("fault", BY_CHECKPOINT, ids=lambda fault: fault.name)
def test_planted_fault_is_caught_at_its_first_site(fault, references):
    result = measured(fault, references)
    assert (result.verdict, result.row["first_site"]) == ("fail", fault.first_site)


@pytest.mark.parametrize("fault", BY_CHECKPOINT, ids=lambda fault: fault.name)
def test_without_the_fault_there_is_silence(fault, references):
    result = measured(fault, references, planted=False)
    assert result.verdict == "pass", result.row["reason"]
    assert result.row["worst_rel_l2"] < 1e-12


def test_window_fault_shrinks_to_the_shortest_prompt_that_shows_it(references):
    fault = next(fault for fault in FAULTS if fault.name == "window off by one")
    result = measured(fault, references, plan=Plan(drawn=0, shrink_seconds=20.0))
    smallest = next(
        row for row in result.prompts if row["prompt_id"] == result.row["first_prompt_id"]
    )
    assert len(smallest["tokens"]) == 1
    assert WINDOW + 1 <= len(smallest["tokens"][0]) < WINDOW + 4
