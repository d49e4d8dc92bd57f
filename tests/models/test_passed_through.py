"""What runs say is passed through, held against an experiment: code that is disturbed is felt.

Disturbing weights would not tell: a bridge holds the reference's own, and its own code reads them.
"""

from contextlib import ExitStack, contextmanager

import pytest
import torch

from harness.case import EXACT, Case, Cell
from harness.errors import Unavailable
from harness.measure.prompts import Vocabulary, bank
from harness.measure.references import References, numerics_of
from harness.models.families import FAMILIES
from harness.models.ports import load_port
from harness.models.sites import LOGITS

NATIVE = [name for name, family in FAMILIES.items() if family.is_native]


@pytest.mark.parametrize("mode", ["bridge", "bridge_compat"])
@pytest.mark.parametrize("family", NATIVE)
def test_what_feels_the_references_code_is_what_it_computed(family, mode):
    cell = Cell(case=Case(family=family), loading_mode=mode, dtype=EXACT)
    checkpoint = References().of(cell).checkpoint
    prompts = bank(Vocabulary.of(checkpoint.config, padding=True))
    prompt = next(prompt for prompt in prompts if prompt.origin == "bank:longest")
    with numerics_of(EXACT):
        try:
            runner = load_port(cell, checkpoint)
        except Unavailable as reason:
            pytest.skip(str(reason))
        clean = runner.run(prompt, runner.sites)
        said = runner.passed_through() & clean.keys()
        felt = {site for site in clean if site != LOGITS and feels(runner, prompt, site, clean)}
    assert felt == said - {LOGITS}


def feels(runner, prompt, site, clean):
    """Say whether a site changes with the one module whose code would compute it.

    Other tokens have no other positions: of these, the module alone is disturbed.
    """
    module, owner = runner._owners[site]
    with disturbed(runner, {owner}):
        by_owner = runner.run(prompt, (site,))[site]
    with disturbed(runner, {module}):
        by_module = runner.run(prompt, (site,))[site]
    changed = [not torch.equal(found, clean[site]) for found in (by_owner, by_module)]
    return changed[1] if site == "pos_embed" else all(changed)


@contextmanager
def disturbed(runner, paths):
    """Change what modules of the reference's library are given; the bridge's own stay as they are.

    That changes what their code computes, whatever their weights are.
    """
    with ExitStack() as stack:
        for path, module in runner._foreign():
            if path in paths:
                stack.callback(module.register_forward_pre_hook(turned, with_kwargs=True).remove)
        yield


def turned(_, args, kwargs):
    given = {name: other(value) for name, value in kwargs.items() if "mask" not in name}
    return tuple(map(other, args)), {**kwargs, **given}


def other(value):
    """Give activations [batch, pos, d] with their last axis turned, and other tokens."""
    if not isinstance(value, torch.Tensor) or value.ndim not in {2, 3}:
        return value
    return value.roll(1, dims=-1)
