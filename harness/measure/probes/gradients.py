"""Gradients: what a port learns from is what the reference learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from harness.errors import Refused
from harness.measure.capture import by_row
from harness.measure.probes.against import relation_at
from harness.measure.probes.model import Owed
from harness.measure.references import numerics_of
from harness.models.ports.asking import Asking
from harness.models.sites import LOGITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from harness.case import Prompt
    from harness.measure.probes.model import Model
    from harness.models.ports import Runner

_STARTS: Final = ("embed", "encoder_blocks.0.resid_pre", "blocks.0.resid_pre")
"""Where a gradient has come back through the whole model; the first that the port can give."""


def gradients(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Take the loss back to the embedding: the gradient there is the reference's.

    A forward pass can be right while a hook, a copy or a clamp cuts the gradient. The loss is the
    mean cross entropy of the next token, which takes out what `center_unembed` moves.
    `center_writing_weights` takes the mean off what is written, and every norm takes it off what
    is read: the loss does not depend on it, so that a gradient along it would be a convention.
    Hence the relation is that of the site itself.
    """
    site = next((start for start in _STARTS if start in model.sites), None)
    if site is None:
        message = f"{model.cell.loading_mode} gives no hook at {', '.join(_STARTS)}"
        raise Refused(message)
    yield Owed(
        check="next-token loss",
        actual={site: gradient_at(site, model.runner, prompt, dtype=model.cell.dtype)},
        expected={site: gradient_at(site, model.reference.runner, prompt, dtype=model.cell.dtype)},
        relations={site: relation_at(model, site)},
    )


def gradient_at(site: str, runner: Runner, prompt: Prompt, *, dtype: str) -> Tensor:
    """Give the gradient of the loss [batch, pos, d_model]; zeros where it does not come through."""
    leaves: list[Tensor] = []

    def make_leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().clone().requires_grad_())
        return leaves[-1]

    asking = Asking(edits={site: make_leaf}, gradients=True)
    with numerics_of(dtype):
        logits = runner.run(prompt, (LOGITS,), asking)[LOGITS]
        with torch.enable_grad():
            loss = next_token_loss(logits, prompt)
        (leaf,) = leaves
        if not loss.requires_grad:
            return by_row(torch.zeros_like(leaf), prompt).detach()
        (found,) = torch.autograd.grad(loss, leaf, allow_unused=True, materialize_grads=True)
    return by_row(found, prompt).detach()


def next_token_loss(logits: Tensor, prompt: Prompt) -> Tensor:
    """Give the mean cross entropy of each next token, by the logits [batch, pos, vocab]."""
    following = torch.tensor(prompt.tokens, device=logits.device)[:, 1:]
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), following.flatten())
