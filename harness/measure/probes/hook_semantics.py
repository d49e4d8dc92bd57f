"""Hook semantics: what is written at a site has the effect that its place implies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from harness.errors import CaptureError, Refused
from harness.measure.capture import by_row, capture
from harness.measure.probes.against import relation_at
from harness.measure.probes.model import Owed
from harness.measure.references import numerics_of
from harness.measure.relations import layer_site
from harness.models.ports.asking import Asking
from harness.models.sites import LOGITS, within_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from harness.case import Prompt
    from harness.measure.probes.model import Model
    from harness.models.ports.asking import Edit

_WRITTEN: Final = (
    "resid_pre",
    "attn.pattern",
    "attn.z",
    "attn_out",
    "resid_mid",
    "mlp.post",
    "mlp_out",
)
"""What is written in a block in the middle; of the last block it is `resid_post`."""


def hook_semantics(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Write to a site by the port's hook: the logits are the reference's, written to at that place.

    A hook can give the right tensor and lead nowhere: what is written to a copy, or to what only
    the norm reads, misses the stream, and every patching experiment with it is silently wrong.

    What is written is the site's own tensor, mixed with itself in reverse order of positions. That
    means the same in every loading mode: no processing mixes positions, and a constant that it
    adds or takes off, as `fold_value_biases` and `center_writing_weights` do, is the same at all
    of them, and so in a mixture. A mixture before a norm or a nonlinearity is another than one
    behind it, which reversing alone is not: so places are told apart. In a pattern each query
    comes to look at itself alone, so that its rows still sum to 1.
    """
    sites = written_sites(model)
    if not sites:
        message = f"{model.cell.loading_mode} has no hook at any place that is written to"
        raise Refused(message)
    plain = model.reference.activations(prompt)[LOGITS]
    for site in sites:
        edit = looking_at_itself if site.endswith(".pattern") else mixed_in(prompt)
        expected = reference_logits(model, prompt, site, edit)
        if torch.equal(expected, plain) and len(set(prompt.tokens[0])) > 1:
            message = f"write {site}: it changes nothing in the reference, and would tell nothing"
            raise CaptureError(message)
        yield Owed(
            check=f"write {site}",
            actual={LOGITS: model.logits(prompt, Asking(edits={site: edit}))},
            expected={LOGITS: expected},
            relations={LOGITS: relation_at(model, LOGITS)},
        )


def written_sites(model: Model) -> list[str]:
    """Name the sites that are written to, one after the other, of those that the port has.

    Where the norms stand behind the sums, the bridge's `hook_resid_mid` is at another place, as the
    comparison says (docs/findings/post-norm-blocks-keep-pre-norm-aliases.md); OPT-350m's forward
    raises where it is written to.
    """
    elsewhere = model.is_post_norm and model.cell.mode.port == "bridge"
    config = model.reference.runner.model.config
    there = set(model.sites).intersection(model.reference.runner.sites)
    found = []
    for stack in model.family.stacks:
        if number := stack.n_layers(config):
            found += [f"{stack.prefix}.{number // 2}.{inside}" for inside in _WRITTEN]
            found.append(f"{stack.prefix}.{number - 1}.resid_post")
    return [
        site
        for site in found
        if site in there and not (elsewhere and within_block(site) == "resid_mid")
    ]


def mixed_in(prompt: Prompt) -> Edit:
    """Give an edit that mixes each position of a prompt with the one as far from the other end.

    The weights are 1/4 and 3/4: they sum to 1, every dtype holds them, and no two positions end up
    the same, as they would by halves.
    """

    def edit(tensor: Tensor) -> Tensor:
        rows = by_row(tensor, prompt)
        return (0.25 * rows + 0.75 * rows.flip(1)).reshape(tensor.shape)

    return edit


def looking_at_itself(pattern: Tensor) -> Tensor:
    """Give a pattern by which each query looks at its own position; a sink gets nothing."""
    itself = torch.eye(*pattern.shape[-2:], dtype=pattern.dtype, device=pattern.device)
    return itself.expand_as(pattern).clone()


def reference_logits(model: Model, prompt: Prompt, site: str, edit: Edit) -> Tensor:
    """Give the reference's logits with an edit at a site.

    `resid_mid` is read where the norm before the MLP reads it: writing there would leave the
    stream beside it as it was. So the change is added to what attention adds to the stream. Where
    the norm stands behind the sum, the stream goes through it, and it is written to itself.
    """
    if within_block(site) == "resid_mid" and not model.is_post_norm:
        before = model.reference.activations(prompt)[site]
        change = edit(before) - before
        site = layer_site(site, "attn_out")

        def edit(branch: Tensor) -> Tensor:
            return branch + change.reshape(branch.shape)

    with numerics_of(model.cell.dtype):
        asking = Asking(edits={site: edit})
        return capture(model.reference.runner, prompt, (LOGITS,), asking)[LOGITS]
