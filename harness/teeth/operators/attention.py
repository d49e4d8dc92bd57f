"""Faults of attention: scale, mask, window, cap, sinks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.teeth.body import unwrapped
from harness.teeth.fault import Fault, attribute, changed, hooked
from harness.teeth.operators.parameters import own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from harness.teeth.body import Body

_SCALES: Final = (
    "scaling",
    "softmax_scale",
    "inv_norm_factor",
    "norm_factor",
    "scale_attn",
    "attention_scale",
    "scale",
)
_MASK_AXES: Final = 4

# Doge hides each key whose mask is not 0, and MPT each whose mask is True: no number counts there.
_SEEN_OR_NOT: Final = frozenset({"doge", "mpt"})
_TAKES_BOOLEANS_ALONE: Final = frozenset({"mpt"})


def attentions(body: Body) -> Iterator[tuple[str, nn.Module]]:
    """Give the attentions of the first and the last block, by the prefix of their sites."""
    for prefix, module in body.attention.items():
        if prefix.rpartition(".")[0] in body.ends():
            yield prefix, module


def scale(body: Body) -> Iterator[Fault]:
    """Scores scaled a millionth, and a tenth, too high."""
    for prefix, module in attentions(body):
        inner = unwrapped(module)
        name = next((n for n in _SCALES if isinstance(getattr(inner, n, None), float)), None)
        if name is None:
            continue
        for size in (1e-6, 0.1):
            yield Fault(
                kind="attention scale",
                name=name,
                size=f"× (1 + {size:g})",
                site=f"{prefix}.attn_scores",
                plant=partial(attribute, inner, name, getattr(inner, name) * (1.0 + size)),
                harsh=partial(attribute, inner, name, 1e3),
            )


def mask(body: Body) -> Iterator[Fault]:
    """The next key seen, all keys seen, the first key hidden, masked keys at -20."""
    if not body.family.causal:
        return
    for prefix, module in attentions(body):
        if prefix.startswith("encoder_") or "cross" in prefix:
            continue
        as_given = body.family.name in _TAKES_BOOLEANS_ALONE
        for name, size, change, kind in _MASKS:
            if kind == "mask constant" and body.family.name in _SEEN_OR_NOT:
                continue
            yield Fault(
                kind=kind,
                name=name,
                size=size,
                site=f"{prefix}.attn_scores",
                plant=partial(hooked, module, _Masked(change, as_given=as_given), side="in"),
                harsh=partial(hooked, module, _Masked(_uniform, as_given=as_given), side="in"),
            )


def padding(body: Body) -> Iterator[Fault]:
    """Padded keys count: the mask that the model is given is not heeded.

    A model that works positions out from the mask has others then, too.
    """
    prefix = next(iter(body.attention), None)
    if prefix is None:
        return
    counts = not body.family.takes_position_ids and "pos_embed" in body.known
    yield Fault(
        kind="padding",
        name="attention_mask",
        size="not heeded",
        site="pos_embed" if counts else f"{prefix}.attn_scores",
        plant=partial(hooked, body.model, _all_seen, side="in"),
    )


def window(body: Body) -> Iterator[Fault]:
    """A window wider or narrower by one, and four times as wide."""
    try:
        width = getattr(body.config, "sliding_window", None)
    except Exception:  # noqa: BLE001 - a config whose layers differ refuses to give one for all
        return
    layer = body.first_layer_of("sliding_attention")
    if not isinstance(width, int) or layer is None:
        return
    site = f"blocks.{layer}.attn.attn_scores"
    for size, value in (("+ 1", width + 1), ("- 1", width - 1), ("× 4", 4 * width)):
        yield Fault(
            kind="window",
            name="sliding_window",
            size=size,
            site=site,
            plant=partial(attribute, body.config, "sliding_window", value),
            harsh=partial(attribute, body.config, "sliding_window", 1),
        )


def cap(body: Body) -> Iterator[Fault]:
    """A cap of the scores a hundredth higher, or left out; the same of the logits."""
    for prefix, module in attentions(body):
        inner = unwrapped(module)
        value = getattr(inner, "attn_logit_softcapping", None)
        if not value:
            continue
        for size, other in (("× 1.01", value * 1.01), ("left out", None)):
            yield Fault(
                kind="softcap",
                name="attn_logit_softcapping",
                size=size,
                site=f"{prefix}.attn_scores",
                plant=partial(attribute, inner, "attn_logit_softcapping", other),
                harsh=partial(attribute, inner, "attn_logit_softcapping", 1e-3),
            )
    value = getattr(body.config, "final_logit_softcapping", None)
    if value:
        for size, other in (("× 1.01", value * 1.01), ("left out", None)):
            yield Fault(
                kind="softcap",
                name="final_logit_softcapping",
                size=size,
                site="logits",
                plant=partial(attribute, body.config, "final_logit_softcapping", other),
                harsh=partial(attribute, body.config, "final_logit_softcapping", 1e-3),
            )


def sinks(body: Body) -> Iterator[Fault]:
    """Sinks a millionth off, and left out."""
    for prefix, module in attentions(body):
        found = own(unwrapped(module)).get("sinks")
        if found is None:
            continue
        for size, change in (("+ 1e-6", _millionth), ("left out", _lowest)):
            yield Fault(
                kind="sinks",
                name="sinks",
                size=size,
                site=f"{prefix}.pattern",
                plant=partial(changed, found, change),
                harsh=partial(changed, found, _lowest),
            )


class _Masked:
    """Gives an attention another mask: the one that it is given, or the causal one, changed.

    It is given numbers, as most attentions take; `as_given` keeps a boolean mask one.
    """

    def __init__(self, change: Callable[[Tensor], Tensor], *, as_given: bool) -> None:
        self.change, self.as_given = change, as_given

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [*args, *kwargs.values()]
        found = next((each for each in given if _is_mask(each)), None)
        if found is None:
            states = args[0] if args else kwargs["hidden_states"]
            kwargs = {**kwargs, "attention_mask": self.change(_causal(states))}
            return args, kwargs
        states = args[0] if args else kwargs["hidden_states"]
        made = self.change(_as_floats(found, states))
        if self.as_given and found.dtype == torch.bool:
            made = (made < 0) == _hides(found)
        return (
            tuple(made if each is found else each for each in args),
            {name: made if each is found else each for name, each in kwargs.items()},
        )


def _is_mask(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == _MASK_AXES


def _causal(states: Tensor) -> Tensor:
    size = states.shape[1]
    ahead = torch.ones(size, size, dtype=torch.bool).triu(1)
    lowest = torch.finfo(states.dtype).min
    return torch.zeros(1, 1, size, size, dtype=states.dtype).masked_fill(ahead, lowest)


def _hides(mask: Tensor) -> bool:
    """Say which of a boolean mask's values hides a key.

    The first of several queries does not see the last key; a single one sees it.
    """
    first_of_last = bool(mask[0, 0, 0, -1])
    return first_of_last if mask.shape[-2] > 1 else not first_of_last


def _as_floats(mask: Tensor, states: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    lowest = torch.finfo(states.dtype).min
    return torch.zeros(mask.shape, dtype=states.dtype).masked_fill(mask == _hides(mask), lowest)


def _next_seen(mask: Tensor) -> Tensor:
    size = mask.shape[-1]
    opened = torch.eye(size, dtype=torch.bool).roll(1, dims=-1)
    opened[-1, 0] = False
    return mask.masked_fill(opened[-mask.shape[-2] :], 0.0)


def _all_seen(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs.get("attention_mask") is None:
        return args, kwargs
    return args, {**kwargs, "attention_mask": torch.ones_like(kwargs["attention_mask"])}


def _uniform(mask: Tensor) -> Tensor:
    return torch.zeros_like(mask)


def _first_hidden(mask: Tensor) -> Tensor:
    mask = mask.clone()
    mask[..., 1:, 0] = torch.finfo(mask.dtype).min
    return mask


def _seen_a_little(mask: Tensor) -> Tensor:
    return mask.clamp(min=-20.0)


_MASKS: Final = (
    ("causal mask", "off by one", _next_seen, "causal mask"),
    ("causal mask", "dropped", _uniform, "causal mask"),
    ("first key", "hidden", _first_hidden, "causal mask"),
    ("mask constant", "-20", _seen_a_little, "mask constant"),
)


def _millionth(value: Tensor) -> Tensor:
    return value + 1e-6


def _lowest(value: Tensor) -> Tensor:
    return torch.full_like(value, -1e4)


OPERATORS: Final = (scale, mask, padding, window, cap, sinks)
