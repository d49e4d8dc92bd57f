"""Sides measured in this process, with faults planted in the port, the reference or both."""

import functools
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.case import Case, Cell, Prompt
from harness.measure import references as referring
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run, write_result
from harness.models.checkpoints import checkpoint_of
from harness.models.checkpoints.folder import Checkpoint
from harness.models.ports import load_port, load_reference

SITE, MODULE = "blocks.1.mlp_out", "transformer.h.1.mlp.c_proj"
LATER, LATER_MODULE = "blocks.2.mlp_out", "transformer.h.2.mlp.c_proj"
ULP = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}
PROMPTS = (
    Prompt.unpadded(((11, 12, 13, 14, 15, 16, 17),), origin="long"),
    Prompt.unpadded(((5, 6, 7), (8, 9, 10)), origin="two rows"),
    Prompt.unpadded(((21, 22),), origin="short"),
)
GPT2 = Case(family="gpt2")


def cells_of(*modes, dtypes=("exact", "float32"), case=GPT2):
    return tuple(
        Cell(case=case, loading_mode=mode, dtype=dtype) for mode in modes for dtype in dtypes
    )


SDPA = cells_of("hf_sdpa")


@functools.cache
def scaled(by, *, module=MODULE, dtype=None, longer_than=0):
    """Plant a factor 1 + by on what a module gives, in one dtype or all, on long prompts or all."""

    def hook(_, __, output):
        if dtype not in {None, output.dtype} or output.shape[1] <= longer_than:
            return output
        return output * (1 + by)

    return hooked(hook, module=module)


@functools.cache
def rounded(*, module=MODULE):
    """Plant a change of the last place on what a module gives."""
    return hooked(lambda _, __, output: output * (1 + ULP[output.dtype]), module=module)


@functools.cache
def spoiled(value):
    """Plant a value that is not finite at one place of what a module gives."""

    def hook(_, __, output):
        output = output.clone()
        output[0, 0, 3] = value
        return output

    return hooked(hook)


def hooked(hook, *, module=MODULE):
    def plant(runner):
        runner.model.get_submodule(module).register_forward_hook(hook)
        return runner

    return plant


@functools.cache
def raising(words):
    def plant(_):
        raise ZeroDivisionError(words)

    return plant


class BreakingOff:
    """A port that raises from its second prompt on."""

    def __init__(self, runner):
        self.runner, self.sites, self.asked = runner, runner.sites, set()
        self.passed_through = runner.passed_through

    def run(self, prompt, sites):
        self.asked.add(prompt.prompt_id)
        if len(self.asked) > 1:
            raise ZeroDivisionError("by zero")
        return self.runner.run(prompt, sites)


def breaking_off_in_exact(runner):
    return BreakingOff(runner) if runner.model.dtype == torch.float64 else runner


class Without:
    """A port that has no such sites."""

    def __init__(self, runner, sites):
        self.runner, self.run, self.passed_through = runner, runner.run, runner.passed_through
        self.sites = tuple(site for site in runner.sites if site not in sites)


@functools.cache
def without(*sites):
    return lambda runner: Without(runner, sites)


def as_it_is(runner):
    return runner


def other_weights(folder, *, by=1e-3, case=GPT2, digest=None):
    """Give references and ports of a copy of the checkpoint with one weight element moved.

    It claims the digest of the original, as a release that loads other weights from it would.
    """
    original = checkpoint_of(case)
    shutil.copytree(original.path, folder, dirs_exist_ok=True)
    file = next(folder.glob("*.safetensors"))
    tensors = load_file(file)
    weight = f"{MODULE}.weight" if f"{MODULE}.weight" in tensors else "h.1.mlp.c_proj.weight"
    tensors[weight][2, 3] += by
    save_file(tensors, file, metadata={"format": "pt"})
    return lambda _: Checkpoint(path=folder, digest=digest or original.digest)


def record(
    run, cells, *, port=as_it_is, reference=as_it_is, checkpoint=checkpoint_of, prompts=PROMPTS
):
    """Measure cells into a run's folder, with faults planted, as a gate's worker does."""
    plan = Plan(prompts=prompts, shrink_seconds=0.0, lenient=True)
    open_run(run, selection={}, plan={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(referring, "load_reference", lambda *asked: reference(load_reference(*asked)))
        references = References(checkpoint)
        for cell in cells:
            result = measure_cell(
                cell,
                run_id=run.name,
                references=references,
                plan=plan,
                load=lambda *asked: port(load_port(*asked)),
            )
            write_result(run, result)
    return run
