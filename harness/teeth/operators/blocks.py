"""Faults of blocks: activation, multipliers, what is added, rounding, routers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from harness.models.sites import LOGITS, within_block
from harness.teeth.fault import Fault, attribute, hooked, on_first, scaled_dimension
from harness.teeth.operators.parameters import WRITTEN_FROM, last_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from harness.teeth.body import Body

_ACTIVATIONS: Final = (
    "act",
    "act_fn",
    "activation_fn",
    "activation",
    "intermediate_act_fn",
    "gelu_impl",
)
_MULTIPLIERS: Final = {
    "residual_multiplier": "resid_mid",
    "embedding_multiplier": "embed",
    "logit_scale": LOGITS,
    "logits_scaling": LOGITS,
}
_DIGITS: Final = {torch.float16: 11, torch.bfloat16: 8}
"""Binary digits of the mantissa, the implied one among them."""
_ROUTED: Final = ("top_k", "num_experts_per_tok")


def activations(body: Body) -> Iterator[Fault]:
    """The other GELU, or GELU and SiLU exchanged."""
    for name in body.ends():
        for module in body.inside(body.blocks[name]):
            found = next((n for n in _ACTIVATIONS if callable(getattr(module, n, None))), None)
            if found is None:
                continue
            before = getattr(module, found)
            for other in _others(before):
                yield Fault(
                    kind="activation",
                    name=type(before).__name__,
                    size=f"→ {type(other).__name__}",
                    site=f"{name}.mlp.post",
                    plant=partial(attribute, module, found, other),
                    harsh=partial(attribute, module, found, nn.Identity()),
                )


def _others(before: Any) -> tuple[nn.Module, ...]:
    """Give the nearest other activation, told by what it gives, and a far one."""
    own = next(before.parameters(), None) if isinstance(before, nn.Module) else None
    at = torch.linspace(-3.0, 3.0, 64, dtype=None if own is None else own.dtype)
    with torch.no_grad():
        given = before(at)
    near = (nn.GELU(approximate="tanh"), nn.GELU(), nn.SiLU(), nn.ReLU())
    others = [each for each in near if not torch.allclose(each(at), given, atol=1e-5)]
    others.sort(key=lambda each: float((each(at) - given).abs().max()))
    return (others[0], others[-1])


def multipliers(body: Body) -> Iterator[Fault]:
    """A multiplier a millionth, and a tenth, too large."""
    seen: set[str] = set()
    for owner in (*body.inside(body.model), body.config):
        for name, inside in _MULTIPLIERS.items():
            value = getattr(owner, name, None)
            if not isinstance(value, float) or name in seen:
                continue
            seen.add(name)
            site = f"blocks.0.{inside}" if inside == "resid_mid" else inside
            for size in (1e-6, 0.1):
                yield Fault(
                    kind="multiplier",
                    name=name,
                    size=f"× (1 + {size:g})",
                    site=site,
                    plant=partial(attribute, owner, name, value * (1.0 + size)),
                    harsh=partial(attribute, owner, name, value * 100.0),
                )


def branches(body: Body) -> Iterator[Fault]:
    """What a branch or a block gives, left out, turned round, or a millionth too much.

    Not all of it too much: a norm behind the branch divides that out.
    """
    for name in body.ends():
        for inside in ("attn_out", "mlp_out"):
            site = f"{name}.{inside}"
            module = last_of(body, site)
            if module is None:
                continue
            for kind, size, change in (
                ("topology", "left out", partial(_times, 0.0)),
                ("topology", "turned round", partial(_times, -1.0)),
                ("multiplier", "one dimension × (1 + 1e-06)", _a_dimension),
            ):
                yield Fault(
                    kind=kind,
                    name=inside,
                    size=size,
                    site=site,
                    plant=partial(hooked, module, change, side="out"),
                    harsh=partial(hooked, module, partial(_times, 0.0), side="out"),
                )
        yield Fault(
            kind="topology",
            name="block",
            size="left out",
            site=f"{name}.resid_post",
            plant=partial(hooked, body.blocks[name], _given, side="out"),
        )


def rounding(body: Body) -> Iterator[Fault]:
    """What a projection gives, rounded to a smaller dtype, as where an upcast is lost."""
    for site, module in body.readers.items():
        inside = within_block(site)
        if inside not in WRITTEN_FROM or not body.is_at_an_end(site):
            continue
        written = site.removesuffix(inside) + WRITTEN_FROM[inside]
        for dtype in (torch.float16, torch.bfloat16):
            yield Fault(
                kind="upcast",
                name=inside,
                size=f"as {str(dtype).removeprefix('torch.')}",
                site=written,
                plant=partial(hooked, module, partial(_rounded, dtype), side="out"),
                harsh=partial(hooked, module, partial(_times, 0.0), side="out"),
            )


def routers(body: Body) -> Iterator[Fault]:
    """One expert fewer; their weights normalised, or not."""
    for name in body.ends():
        for module in body.inside(body.blocks[name]):
            for field in (*_ROUTED, "norm_topk_prob"):
                value = getattr(module, field, None)
                if not isinstance(value, int) or (value < 2 and not isinstance(value, bool)):  # noqa: PLR2004
                    continue
                flag = isinstance(value, bool)
                other: int = not value if flag else value - 1
                yield Fault(
                    kind="router",
                    name=f"{type(module).__name__}.{field}",
                    size="flipped" if flag else "- 1",
                    site=f"{name}.mlp_out",
                    plant=partial(attribute, module, field, other),
                    harsh=partial(attribute, module, field, other if flag else value + 1),
                )


def _times(factor: float, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001 - a hook
    return on_first(output, lambda value: value * factor)


def _a_dimension(args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001 - a hook
    return on_first(output, lambda value: scaled_dimension(value, 1e-6))


def _given(args: tuple[Any, ...], output: Any) -> Any:
    return on_first(output, lambda value: args[0] if args else value * 0.0)


def _rounded(dtype: torch.dtype, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001
    return on_first(output, lambda value: as_if(value, dtype))


def as_if(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Round the mantissa to a dtype's. In exact mode a cast to the dtype does not."""
    digits = _DIGITS[dtype]
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp((mantissa * 2.0**digits).round() / 2.0**digits, exponent)


OPERATORS: Final = (activations, multipliers, branches, rounding, routers)
