"""Faults of positions: rotary frequencies and pairs, learned positions, relative biases."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.teeth.body import unwrapped
from harness.teeth.fault import Fault, attribute, changed, hooked
from harness.teeth.operators.attention import attentions
from harness.teeth.operators.parameters import own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from harness.teeth.body import Body

_WITH_ALIBI: Final = ("bloom", "falcon", "mpt")
"""Families whose attention is given ALiBi as an argument; of Falcon a field says whether it is."""
_BIASES: Final = ("alibi", "position_bias")
_COS_AND_SIN: Final = 2


def rotaries(body: Body) -> Iterator[tuple[nn.Module, str, str]]:
    """Give each module of rotary positions, its buffer, and the site that it turns first."""
    for module in body.inside(body.model):
        for name, _ in module.named_buffers(recurse=False):
            if not name.endswith("inv_freq") or "original" in name:
                continue
            types = getattr(body.config, "layer_types", None) or []
            own_type = next((kind for kind in types if name.startswith(kind)), None)
            layer = 0 if own_type is None else types.index(own_type)
            yield module, name, f"blocks.{layer}.attn.rot_q"


def frequencies(body: Body) -> Iterator[Fault]:
    """Frequencies a millionth off, of another base, and the last dimensions not turned."""
    for module, name, site in rotaries(body):
        buffer = getattr(module, name)
        for fault, size, change in (
            ("inv_freq", "× (1 + 1e-06)", _millionth),
            ("rope_theta", "× 1.01", _other_base),
            ("last frequency", "left out", _last_out),
        ):
            yield Fault(
                kind="rotary",
                name=fault,
                size=size,
                site=site,
                plant=partial(changed, buffer, change),
                harsh=partial(changed, buffer, _far_off),
            )


def pairs(body: Body) -> Iterator[Fault]:
    """Cosines and sines in the order of neighbouring pairs; scaled."""
    places = {site: place for place, site in enumerate(body.known)}
    first: dict[nn.Module, str] = {}
    for module, _, site in sorted(rotaries(body), key=lambda found: places.get(found[2], 0)):
        first.setdefault(module, site)
    for module, site in first.items():
        for size, change in (("neighbouring pairs", _neighbours), ("× 1.001", _scaled)):
            yield Fault(
                kind="rotary",
                name="cos and sin",
                size=size,
                site=site,
                plant=partial(hooked, module, partial(_turned, change), side="out"),
            )


def learned(body: Body) -> Iterator[Fault]:
    """Learned positions off by one."""
    module = body.writers.get("pos_embed")
    weight = own(module).get("weight") if module is not None else None
    if weight is not None:
        yield Fault(
            kind="positions",
            name="pos_embed",
            size="off by one",
            site="pos_embed",
            plant=partial(changed, weight, _next_row),
        )


def relative(body: Body) -> Iterator[Fault]:
    """A bias of distances that attention is given, a millionth and a hundredth off."""
    if body.family.name not in _WITH_ALIBI or not getattr(body.config, "alibi", True):
        return
    for prefix, module in attentions(body):
        for size in (1e-6, 1e-2):
            yield Fault(
                kind="relative bias",
                name="ALiBi",
                size=f"× (1 + {size:g})",
                site=f"{prefix}.attn_scores",
                plant=partial(hooked, module, partial(_biased, 1.0 + size), side="in"),
                harsh=partial(hooked, module, partial(_biased, 100.0), side="in"),
            )


def buckets(body: Body) -> Iterator[Fault]:
    """T5's relative positions: another farthest distance, a bias a little off."""
    for module in body.inside(body.model):
        table = getattr(module, "relative_attention_bias", None)
        if table is None:
            continue
        stacks = [stack.prefix for stack in body.family.stacks]
        own_stack = "decoder_blocks" if getattr(module, "is_decoder", False) else "encoder_blocks"
        site = f"{own_stack if own_stack in stacks else 'blocks'}.0.attn.attn_scores"
        yield Fault(
            kind="relative bias",
            name="relative_attention_bias",
            size="+ 1e-4 at distance 0",
            site=site,
            plant=partial(changed, unwrapped(table).weight, _nearest),
        )
        farthest = getattr(module, "relative_attention_max_distance", None)
        if isinstance(farthest, int):
            yield Fault(
                kind="relative bias",
                name="relative_attention_max_distance",
                size="halved",
                site=site,
                plant=partial(
                    attribute,
                    module,
                    "relative_attention_max_distance",
                    farthest // 2,
                ),
                harsh=partial(attribute, module, "relative_attention_max_distance", 17),
            )


def _millionth(value: Tensor) -> Tensor:
    return value * (1.0 + 1e-6)


def _other_base(value: Tensor) -> Tensor:
    powers = torch.arange(value.shape[-1], dtype=value.dtype) / value.shape[-1]
    return value * 1.01**-powers


def _last_out(value: Tensor) -> Tensor:
    value[..., -1] = 0.0
    return value


def _far_off(value: Tensor) -> Tensor:
    return value * 1.7 + 0.3


def _turned(change: Any, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001 - a hook
    if isinstance(output, tuple) and len(output) == _COS_AND_SIN:
        return tuple(change(each) for each in output)
    return output


def _neighbours(value: Tensor) -> Tensor:
    half = value.shape[-1] // 2
    return value[..., :half].repeat_interleave(2, dim=-1)


def _scaled(value: Tensor) -> Tensor:
    return value * 1.001


def _next_row(value: Tensor) -> Tensor:
    return value.roll(-1, dims=0)


def _nearest(value: Tensor) -> Tensor:
    value[0] += 1e-4
    return value


def _biased(factor: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    changed_ones = {
        name: kwargs[name] * factor
        for name in _BIASES
        if isinstance(kwargs.get(name), torch.Tensor) and kwargs[name].is_floating_point()
    }
    return args, {**kwargs, **changed_ones}


OPERATORS: Final = (frequencies, pairs, learned, relative, buckets)
