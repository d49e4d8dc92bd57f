"""Faults of norms: epsilon, (1 + w), left out, rounded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from harness.models.sites import within_block
from harness.teeth.fault import Fault, attribute, hooked
from harness.teeth.operators.parameters import of_parameter, own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from harness.teeth.body import Body

_FELT: Final = 1e-8
"""Below this an epsilon is no part of a norm's value: BERT's is 1e-12."""
_EPSILONS: Final = ("variance_epsilon", "eps", "epsilon", "layer_norm_epsilon")


def norms(body: Body) -> Iterator[tuple[str, nn.Module]]:
    """Give the norms outside the blocks, and those of the first and the last."""
    for site, module in body.writers.items():
        if within_block(site).endswith(".out") and body.is_at_an_end(site):
            yield site, module


def epsilon(body: Body) -> Iterator[Fault]:
    """Epsilon by a fifth, and by ten; one too small to be felt, that of most models."""
    for site, module in norms(body):
        name = next((name for name in _EPSILONS if hasattr(module, name)), None)
        if name is None:
            continue
        value = getattr(module, name)
        others = {"→ 1e-5": 1e-5}
        if value >= _FELT:
            others = {f"× {factor:g}": value * factor for factor in (1.2, 10.0)}
        for size, other in others.items():
            yield Fault(
                kind="epsilon",
                name="epsilon",
                size=size,
                site=site,
                plant=partial(attribute, module, name, other),
                harsh=partial(attribute, module, name, 1e3),
            )


def one_and_gain(body: Body) -> Iterator[Fault]:
    """A gain of w taken for 1 + w, and the other way round."""
    for site, module in norms(body):
        weight = own(module).get("weight")
        if weight is None:
            continue
        yield of_parameter("norm", "w for 1 + w", "- 1", site, weight, _less_one)


def left_out(body: Body) -> Iterator[Fault]:
    """A norm that gives what it gets."""
    for site, module in norms(body):
        yield Fault(
            kind="norm",
            name="norm",
            size="left out",
            site=site,
            plant=partial(hooked, module, _input, side="out"),
            harsh=partial(hooked, module, _nothing, side="out"),
        )


def _less_one(value: Tensor) -> Tensor:
    return value - 1.0


def _input(args: tuple[Any, ...], output: Any) -> Any:
    return args[0] if args else output


def _nothing(args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001 - a hook
    return output * 0.0


OPERATORS: Final = (epsilon, one_and_gain, left_out)
