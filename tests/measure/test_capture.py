from contextlib import contextmanager

import pytest
import torch

from harness.case import Case, Cell, Prompt
from harness.errors import CaptureError
from harness.measure.capture import capture
from harness.models.checkpoints import checkpoint_of
from harness.models.ports import load_port, load_reference

PROMPT = Prompt.unpadded(((5, 6, 7), (8, 9, 10)), origin="a test")
ONE_TOKEN = Prompt.unpadded(((5,),), origin="a test")


def loaded(load, family, mode="bridge"):
    case = Case(family=family)
    return load(Cell(case=case, loading_mode=mode, dtype="float32"), checkpoint_of(case))


@pytest.fixture(scope="module")
def gpt2():
    return loaded(load_reference, "gpt2")


@pytest.fixture(scope="module")
def opt():
    return loaded(load_reference, "opt")


@pytest.fixture(scope="module")
def bridge():
    return loaded(load_port, "gpt2")


@pytest.fixture(params=["reference", "bridge"])
def runner(request, gpt2, bridge):
    return {"reference": gpt2, "bridge": bridge}[request.param]


def root_of(runner):
    return runner.bridge if hasattr(runner, "bridge") else runner.model


def hooks_in(runner):
    """Count the hooks of every module, PyTorch's and TransformerLens'."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "fwd_hooks", "bwd_hooks")
    modules = set(root_of(runner).modules())
    if hasattr(runner, "bridge"):
        modules |= set(runner.bridge.original_model.modules())
    return sum(len(getattr(module, kind, ())) for module in modules for kind in kinds)


@contextmanager
def breaking_in_the_middle(runner):
    """Let the model raise in its second layer."""

    def break_off(*_):
        raise ZeroDivisionError

    if hasattr(runner, "bridge"):
        middle = runner.bridge.blocks[1].mlp
    else:
        middle = runner.model.get_submodule("transformer.h.1.mlp")
    handle = middle.register_forward_pre_hook(break_off)
    try:
        yield
    finally:
        handle.remove()


def test_what_is_asked_for_is_what_is_given_in_the_order_asked(runner):
    asked = ("logits", "blocks.2.attn.pattern", "embed", "blocks.0.attn.q")
    assert tuple(capture(runner, PROMPT, asked)) == asked


def test_every_site_that_a_runner_names_is_given(runner):
    taken = capture(runner, PROMPT, runner.sites)
    assert tuple(taken) == runner.sites
    assert all(tensor.isfinite().all() for site, tensor in taken.items() if "scores" not in site)


def test_sites_that_do_not_fire_are_named(runner):
    with pytest.raises(CaptureError, match=r"2 did not fire: blocks\.9\.attn_out, nothing"):
        capture(runner, PROMPT, ("logits", "blocks.9.attn_out", "nothing"))


def test_asking_for_nothing_is_an_error(runner):
    with pytest.raises(CaptureError, match="no sites asked for"):
        capture(runner, PROMPT, ())


def test_a_hook_that_is_there_is_counted(runner):
    before = hooks_in(runner)
    with breaking_in_the_middle(runner):
        assert hooks_in(runner) == before + 1


def test_no_hook_stays_behind(runner):
    capture(runner, PROMPT, runner.sites)  # at its first run the bridge sets up hooks of its own
    before = hooks_in(runner)
    capture(runner, PROMPT, runner.sites)
    assert hooks_in(runner) == before


def test_no_hook_stays_behind_when_the_model_raises_in_the_middle(runner):
    capture(runner, PROMPT, runner.sites)
    before = hooks_in(runner)
    with pytest.raises(ZeroDivisionError), breaking_in_the_middle(runner):
        capture(runner, PROMPT, runner.sites)
    assert hooks_in(runner) == before


def test_a_run_that_broke_off_leaves_no_trace_in_the_next(runner):
    before = capture(runner, PROMPT, runner.sites)
    with pytest.raises(ZeroDivisionError), breaking_in_the_middle(runner):
        capture(runner, ONE_TOKEN, runner.sites)
    after = capture(runner, PROMPT, runner.sites)
    assert all(torch.equal(before[site], after[site]) for site in runner.sites)


def test_what_is_captured_is_a_copy_that_later_layers_do_not_write_into(runner):
    alone = capture(runner, PROMPT, ["blocks.0.resid_post"])
    together = capture(runner, PROMPT, runner.sites)
    assert torch.equal(alone["blocks.0.resid_post"], together["blocks.0.resid_post"])


def test_nothing_captured_asks_for_gradients(runner):
    assert not any(
        tensor.requires_grad for tensor in capture(runner, PROMPT, runner.sites).values()
    )


def test_every_tensor_is_laid_out_as_its_site_says(runner):
    taken = capture(runner, PROMPT, runner.sites)
    shapes = {
        "blocks.0.resid_pre": (2, 3, 20),
        "blocks.0.attn.q": (2, 3, 5, 4),
        "blocks.0.attn.z": (2, 3, 5, 4),
        "blocks.0.attn.pattern": (2, 5, 3, 3),
        "blocks.0.mlp.post": (2, 3, 44),
        "logits": (2, 3, 67),
    }
    assert {site: tuple(taken[site].shape) for site in shapes} == shapes


def test_tokens_that_opt_flattens_into_one_axis_are_unflattened_again(opt):
    site = "blocks.0.mlp.pre"
    raw = opt.run(PROMPT, [site])[site]
    taken = capture(opt, PROMPT, [site])[site]
    assert (raw.shape, taken.shape) == ((6, 44), (2, 3, 44))
    assert torch.equal(taken.flatten(0, 1), raw)


def test_a_row_of_opts_flattened_tokens_is_that_row(opt):
    row = Prompt.unpadded(PROMPT.tokens[1:], origin="a test")
    both, alone = (capture(opt, prompt, ["blocks.0.mlp.pre"]) for prompt in (PROMPT, row))
    torch.testing.assert_close(both["blocks.0.mlp.pre"][1:], alone["blocks.0.mlp.pre"])
