"""Holds what was found to what it is, on a second prompt, read as a runner will read it.

What was recorded once tells how each site is made of others; run again from what is read there on
the second prompt, it must give what is read at the site. Both sides are the same operations on the
same numbers, in any dtype, so that the bound is one of rounding alone.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.models.discovery.recording import tap_input
from harness.models.discovery.replaying import replayed
from harness.models.layouts import n_heads
from harness.models.ports.asking import PLAIN
from harness.models.ports.attention_trace import AttentionTrace
from harness.models.ports.routers import routed_by
from harness.models.sites import ROUTER, within_block
from harness.models.text_config import text_part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from harness.models.discovery.found import Equation, Found
    from harness.models.discovery.graph import Graph
    from harness.models.family import Tap

# Measured: at most 0.45 in 890 equations each in exact, float32 and bfloat16, of the 51 default
# and other variants in tests/models/discovery. Two tensors that have nothing to do with each other
# differ by more than the whole of one, which is 128 in bfloat16.
_ROUNDINGS: Final = 16
_UNTRACED: Final = "turned by position, and not as one projection whose product can be traced"
_BY_HEAD: Final = 4  # axes of [batch, pos, head, d_head]
_SINK: Final = 1e-3  # of a row of the pattern, what a sink beside the keys takes at least


def close(actual: Tensor, expected: Tensor) -> bool:
    """Say whether two tensors are the same up to rounding in their dtype."""
    if actual.numel() != expected.numel():
        return False
    bound = _ROUNDINGS * torch.finfo(expected.dtype).eps
    one, other = actual.double().flatten(), expected.double().flatten()
    return bool((one - other).norm() <= bound * other.norm())


def confirm(model: Any, inputs: Mapping[str, Any], graph: Graph, found: Found) -> None:
    """Run the model on another prompt; take back each site that is not what it was taken for."""
    read, traced = _read(model, inputs, found)
    length = inputs["input_ids"].shape[1]
    for site in [site for site in found.taps if site not in read]:
        found.drop(site, "its module did not run on the second prompt, or gave no tensor")
    for site, tensor in read.items():
        if site in found.taps and not _is_laid_out(site, tensor, inputs["input_ids"].shape):
            found.drop(site, f"laid out as {'×'.join(map(str, tensor.shape))}")
    for prefix in list(found.attention):
        why = _wrong_attention(prefix, traced, text_part(model.config), length)
        wrong_heads = "" if why else _wrong_heads(prefix, read, traced, found)
        for site in (f"{prefix}.v", f"{prefix}.z") if wrong_heads else ():
            found.drop(site, wrong_heads)
        if why or wrong_heads:
            found.attention.pop(prefix)
            found.missing[f"{prefix}.pattern"] = why or wrong_heads
    for equation in found.equations:
        why = _wrong(graph, equation, read)
        for site in equation.blamed if why else ():
            found.drop(site, why)
    found.sums = {
        equation.site: tuple(equation.given.values())
        for equation in found.equations
        if equation.adds and _is_sum(equation, read, found)
    }
    _confirm_turned(traced, found)
    found.scores_shifted = bool(found.attention) and all(
        _has_maximum_zero(traced[f"{prefix}.attn_scores"]) for prefix in found.attention
    )
    found.sinks = any(
        float(traced[f"{prefix}.pattern"].double().sum(-1).min()) < 1 - _SINK
        for prefix in found.attention
    )


def _has_maximum_zero(scores: Tensor) -> bool:
    """Say whether each row's maximum was taken off it; a sink beside the keys may have held it."""
    largest = scores.amax(-1)
    return bool((largest <= 0).all()) and bool((largest == 0).any())


def _is_laid_out(site: str, tensor: Tensor, tokens: torch.Size) -> bool:
    """Say whether a tensor has a row for each token; a table of positions has one for all."""
    batch, length = tokens
    if tensor.ndim == _BY_HEAD:
        return tuple(tensor.shape[:2]) == (batch, length)
    if tensor.ndim == _BY_HEAD - 1:
        rows = {batch, 1} if site == "pos_embed" else {batch}
        return tensor.shape[0] in rows and tensor.shape[1] == length
    return tensor.ndim == _BY_HEAD - 2 and tensor.shape[0] == batch * length


def _confirm_turned(traced: Mapping[str, Tensor], found: Found) -> None:
    """Keep the attentions whose turned queries and keys are those of one projection each.

    Where a head is put together of several, as in latent attention, what is turned is a part. In a
    model that turns them in some layers, those of the others are told as well: as they are.
    """
    whole = {
        prefix
        for prefix in found.attention
        if {f"{prefix}.q", f"{prefix}.k"} <= set(found.taps) and f"{prefix}.rot_q" in traced
    }
    missing = dict.fromkeys((f"{prefix}.rot_q" for prefix in found.turned - whole), _UNTRACED)
    found.missing.update(missing)
    plain = {prefix for prefix in whole if not prefix.endswith("cross_attn")}
    found.turned = (found.turned & whole) | (plain if found.turned & whole else set())


def _is_sum(equation: Equation, read: Mapping[str, Tensor], found: Found) -> bool:
    """Say whether a site is the plain sum of what it is made of, all of which was confirmed."""
    if not {equation.site, *equation.given.values()} <= set(found.taps):
        return False
    expected = read[equation.site]
    given = [read[site].double() for site in equation.given.values()]
    if any(each.numel() != expected.numel() for each in given):
        return False
    return close(torch.stack([each.reshape(expected.shape) for each in given]).sum(0), expected)


def _read(
    model: Any, inputs: Mapping[str, Any], found: Found
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Give what is read at the sites' modules and inside attention in one forward pass."""
    read: dict[str, Tensor] = {}
    seen = PLAIN.taken(())
    trace = AttentionTrace(config=text_part(model.config), into=seen)
    with ExitStack() as stack:
        for site, tap in found.taps.items():
            stack.callback(_tapped(model, site, tap, read).remove)
        for prefix, path in found.attention.items():
            stack.enter_context(trace.watching(model.get_submodule(path), prefix))
        stack.enter_context(torch.no_grad())
        stack.enter_context(trace)
        model(**inputs)
    return read, seen.at(seen)


def _tapped(model: Any, site: str, tap: Tap, read: dict[str, Tensor]) -> Any:
    module = model.get_submodule(tap.module)

    def keep(value: Any) -> None:
        tensor = value[0] if isinstance(value, tuple) and value else value
        if isinstance(tensor, torch.Tensor):
            view = tensor if tap.view is None else tap.view(tensor, text_part(model.config))
            read[site] = view.detach().clone()

    def before(_: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(tap_input(args, kwargs))

    def after(router: Any, args: tuple[Any, ...], output: Any) -> None:
        keep(routed_by(router, args[0], output) if within_block(site) == ROUTER else output)

    if tap.side == "in":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def _wrong_attention(prefix: str, traced: Mapping[str, Tensor], config: Any, length: int) -> str:
    """Say what is wrong with a traced pattern; nothing if all is as it must be."""
    pattern = traced.get(f"{prefix}.pattern")
    if pattern is None or pattern.ndim != 4:  # noqa: PLR2004 - [batch, head, query, key]
        return "no pattern [batch, head, query, key] can be traced"
    heads = n_heads(config)
    if tuple(pattern.shape[2:]) != (length, length):
        return f"the pattern weighs {tuple(pattern.shape[2:])} positions, of {length}"
    if pattern.shape[1] != heads:
        return f"the pattern has {pattern.shape[1]} heads, and the config {heads}"
    # Many a softmax in a wider dtype is computed in float32 all the same.
    eps = max(torch.finfo(dtype).eps for dtype in (pattern.dtype, torch.float32))
    rounding = _ROUNDINGS * eps
    if float(pattern.min()) < 0 or float(pattern.double().sum(-1).max()) > 1 + rounding:
        return "the pattern's rows sum to more than 1"
    return ""


def _wrong_heads(
    prefix: str, read: Mapping[str, Tensor], traced: Mapping[str, Tensor], found: Found
) -> str:
    """Say that a pattern does not weigh the values into what the heads give; nothing if it does."""
    value, z = read.get(f"{prefix}.v"), read.get(f"{prefix}.z")
    if value is None or z is None or prefix not in found.weighed:
        return ""
    value = value.repeat_interleave(z.shape[2] // value.shape[2], dim=2)
    pattern = traced[f"{prefix}.pattern"].double()
    weighed = torch.einsum("bhqk,bkhd->bqhd", pattern, value.double())
    return "" if close(weighed, z) else "the pattern does not weigh v into z"


def _wrong(graph: Graph, equation: Equation, read: Mapping[str, Tensor]) -> str:
    """Say that a site is not what its equation makes of others; nothing if it is."""
    sites = (equation.site, *equation.given.values())
    if any(site not in read for site in sites):
        return ""
    given = {
        number: read[site].reshape(graph.tensor(number).shape)
        for number, site in equation.given.items()
    }
    made_of = " and ".join(equation.given.values())
    if not graph.is_made_of(equation.value, equation.given):
        return f"{equation.site} is made of more than {made_of}"
    try:
        made = replayed(graph, given, equation.value)
    except (RuntimeError, LookupError) as error:
        return f"{equation.site} cannot be made of {made_of} again ({type(error).__name__})"
    if close(made, read[equation.site]):
        return ""
    return f"{equation.site} is not what is made of {made_of}, by numbers"
