"""Faults that a probe must see: asked of one model, where no second one would tell."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from harness.teeth.fault import Fault, attribute, hooked
from harness.teeth.operators.attention import mask
from harness.teeth.operators.norms import norms
from harness.teeth.operators.reading import state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.teeth.body import Body

_EPSILONS: Final = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon")


def cache(body: Body) -> Iterator[Fault]:
    """The last layer's cached keys a thousandth off, seen by the next step alone.

    Where keys are turned, those of the whole cache are read behind it.
    """
    prefix = next(reversed(list(body.attention)), None)
    if prefix is None or not body.family.causal or body.config.is_encoder_decoder:
        return
    yield Fault(
        kind="KV cache",
        name="cached keys",
        size="× (1 + 0.001)",
        site=f"{prefix}.rot_k",
        plant=partial(hooked, body.model, _cached_keys, side="out"),
        probe="cached_decoding",
    )


def forgetting(body: Body) -> Iterator[Fault]:
    """A pass that leaves something behind: asked again, it answers otherwise."""
    for fault in state(body):
        yield replace(fault, probe="repeatability")


def ahead(body: Body) -> Iterator[Fault]:
    """The next key is seen: what follows changes what came before."""
    for fault in mask(body):
        if fault.size == "off by one":
            yield replace(fault, probe="causality")


def saved(body: Body) -> Iterator[Fault]:
    """A config that says another epsilon than the model was made with: saved, it comes back."""
    name = next((each for each in _EPSILONS if hasattr(body.config, each)), None)
    found = {site for site, _ in norms(body)}
    first = next((site for site in body.known if site in found), None)
    if name is None or first is None:
        return
    yield Fault(
        kind="round trip",
        name=name,
        size="→ 1e-3",
        site=first,
        plant=partial(attribute, body.config, name, 1e-3),
        probe="save_load",
    )


def _cached_keys(args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001 - a hook
    layers = getattr(getattr(output, "past_key_values", None), "layers", None)
    if layers and getattr(layers[-1], "keys", None) is not None:
        layers[-1].keys = layers[-1].keys * 1.001
    return output


OPERATORS: Final = (cache, forgetting, ahead, saved)
