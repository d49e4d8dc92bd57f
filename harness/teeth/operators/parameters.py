"""Faults of weights and biases: a little off, dropped, of another layer, folded twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import torch

from harness.models.sites import LOGITS, within_block
from harness.teeth.fault import Fault, attribute, changed, scaled_dimension

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from harness.teeth.body import Body
    from harness.teeth.fault import Plant

# Where the module that reads a site stands right before another site, it writes that one.
WRITTEN_FROM: Final = {
    "attn.z": "attn_out",
    "cross_attn.z": "cross_attn_out",
    "mlp.post": "mlp_out",
}


def last_of(body: Body, site: str) -> nn.Module | None:
    """Give the module whose output is a branch's: its last projection, or else the whole branch."""
    inside = within_block(site)
    before = next(key for key, value in WRITTEN_FROM.items() if value == inside)
    return body.readers.get(site.removesuffix(inside) + before) or body.writers.get(site)


def written(body: Body) -> Iterator[tuple[str, nn.Module]]:
    """Give each module with parameters of its own and the first site that it writes.

    Of the blocks, those of the first and the last. A head tied to the embedding is the embedding.
    """
    found: dict[int, tuple[str, nn.Module]] = {}
    writers = dict(body.writers)
    for site, module in body.readers.items():
        inside = within_block(site)
        if inside in WRITTEN_FROM:
            writers[site.removesuffix(inside) + WRITTEN_FROM[inside]] = module
    known = list(body.known)
    for site in sorted(writers, key=lambda name: known.index(name) if name in known else 0):
        module = writers[site]
        if own(module) and body.is_at_an_end(site):
            found.setdefault(id(module), (site, module))
    yield from found.values()
    places = {value.data_ptr() for _, module in found.values() for value in own(module).values()}
    if body.head is None:
        return
    of_head = {value.data_ptr() for value in own(body.head).values()}
    if places.isdisjoint(of_head):
        tied = body.embedding is not None and of_head.intersection(
            value.data_ptr() for value in own(body.embedding).values()
        )
        yield ("embed" if tied else LOGITS), body.head


def own(module: nn.Module) -> dict[str, Tensor]:
    """Give a module's own weight and bias."""
    return dict(module.named_parameters(recurse=False))


def weights(body: Body) -> Iterator[Fault]:
    """One column of a weight a millionth, a thousandth, a fifth, or four times too large."""
    for site, module in written(body):
        weight = own(module).get("weight")
        if weight is None:
            continue
        for size in (1e-6, 1e-3, 0.2, 4.0):
            change, words = partial(scaled_dimension, size=size), f"× (1 + {size:g})"
            yield of_parameter("parameter", "weight column", words, site, weight, change)


def biases(body: Body) -> Iterator[Fault]:
    """One element of a bias off; the whole dropped."""
    for site, module in written(body):
        bias = own(module).get("bias")
        if bias is None:
            continue
        element = partial(_element, 1e-4)
        yield of_parameter("parameter", "one bias element", "+ 1e-4", site, bias, element)
        yield of_parameter("parameter", "bias", "dropped", site, bias, torch.zeros_like)


def heads(body: Body) -> Iterator[Fault]:
    """Heads in another order: the rows of a projection, or the columns of the output's."""
    for site, module in written(body):
        weight, inside = own(module).get("weight"), within_block(site)
        if weight is None or weight.ndim != 2 or inside not in {"attn.q", "attn.k", "attn.v"}:  # noqa: PLR2004
            continue
        size = weight.shape[0] // max(int(body.config.num_attention_heads), 1)
        change = partial(_rolled, max(size, 1))
        yield of_parameter("head order", f"{inside} by one head", "rolled", site, weight, change)


def loading(body: Body) -> Iterator[Fault]:
    """The last block's weights are the first one's; the unembedding is not the embedding."""
    first, *_, last = body.ends() if len(body.ends()) > 1 else (None, None)
    if first is not None and last is not None:
        for site, module in written(body):
            if not site.startswith(f"{last}."):
                continue
            twin = body.writers.get(site.replace(last, first, 1))
            mine = own(module).get("weight")
            other = None if twin is None else own(twin).get("weight")
            if mine is not None and other is not None and mine.shape == other.shape:
                name = f"weight of {first} in {last}"
                yield of_parameter("loading", name, "whole", site, mine, partial(_other, other))
    if body.head is not None and "weight" in own(body.head):
        yield Fault(
            kind="loading",
            name="tokens of the unembedding moved on by one",
            size="rolled",
            site=LOGITS,
            plant=partial(untied, body.head),
        )


def folded(body: Body) -> Iterator[Fault]:
    """A norm's gain folded twice into what reads it."""
    for site, module in written(body):
        weight = own(module).get("weight")
        if weight is None or weight.ndim != 2 or within_block(site) not in {"attn.q", "mlp.pre"}:  # noqa: PLR2004
            continue
        name = "a gain folded twice"
        yield of_parameter("folding", name, "0.5 to 1.5", site, weight, _gained)


def of_parameter(  # noqa: PLR0917 - what tells one fault from another, in the order of its words
    kind: str,
    name: str,
    size: str,
    site: str,
    parameter: Tensor,
    change: Callable[[Tensor], Tensor],
) -> Fault:
    """Give the fault that a parameter is changed; harshly, to three times itself and one."""
    return Fault(
        kind=kind,
        name=name,
        size=size,
        site=site,
        plant=partial(changed, parameter, change),
        harsh=partial(changed, parameter, _loud),
    )


def untied(head: nn.Module) -> Plant:
    """Give the head a weight of its own, rolled by one token."""
    rolled = torch.nn.Parameter(own(head)["weight"].detach().roll(1, dims=0), requires_grad=False)
    return attribute(head, "weight", rolled)


def _element(size: float, value: Tensor) -> Tensor:
    value.view(-1)[0] += size
    return value


def _rolled(size: int, value: Tensor) -> Tensor:
    return value.roll(size, dims=0)


def _other(other: Tensor, value: Tensor) -> Tensor:  # noqa: ARG001 - a change of a value
    return other.detach()


def _gained(value: Tensor) -> Tensor:
    return value * torch.linspace(0.5, 1.5, value.shape[-1], dtype=value.dtype)


def _loud(value: Tensor) -> Tensor:
    return value * 3.0 + 1.0


OPERATORS: Final = (weights, biases, heads, loading, folded)
