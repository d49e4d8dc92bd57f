"""Faults of reading: the logits are right and the activation is not; a pass remembers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from harness.models.ports.asking import PLAIN, Asking
from harness.models.sites import LOGITS
from harness.teeth.fault import Fault, as_it_is, hooked, on_first, scaled_dimension
from harness.teeth.operators.parameters import last_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from harness.case import Prompt
    from harness.models.ports import Runner
    from harness.teeth.body import Body

_NEIGHBOURS: Final = {
    "attn_out": "resid_mid",
    "mlp_out": "resid_post",
    "resid_mid": "resid_pre",
    "attn.pattern": "attn.attn_scores",
    "attn.rot_q": "attn.q",
    "mlp.post": "mlp.pre",
}
_SCALED: Final = ("resid_pre", "attn.z", "attn.pattern", "mlp_out")


class Misreading:
    """A runner that gives another tensor at one site; what it computes is right."""

    def __init__(self, runner: Runner, site: str, change: Callable[[dict[str, Any]], Any]) -> None:
        """Give at `site` what `change` makes of all tensors."""
        self.runner, self.site, self.change = runner, site, change
        self.sites = runner.sites
        self.passed_through = runner.passed_through

    def run(
        self, prompt: Prompt, sites: Sequence[str], asking: Asking = PLAIN
    ) -> dict[str, Tensor]:
        """Run the runner and misread; what is to be handed over as it fires is given at the end."""
        taken = self.runner.run(prompt, sites, replace(asking, hand=None))
        return {**taken, self.site: self.change(taken)} if self.site in taken else taken


def scaled(body: Body) -> Iterator[Fault]:
    """A site's tensor a millionth too large."""
    for name in body.ends():
        for inside in _SCALED:
            site = f"{name}.{inside}"
            if site in body.sites:
                yield misread(site, 1e-6)


def neighbours(body: Body) -> Iterator[Fault]:
    """A site's tensor taken a step too late, or too early."""
    for name in body.ends():
        for inside, other in _NEIGHBOURS.items():
            site, taken_at = f"{name}.{inside}", f"{name}.{other}"
            if site in body.sites and taken_at in body.sites:
                yield _misread(site, f"is {other}", partial(_at, taken_at))


def state(body: Body) -> Iterator[Fault]:
    """From the second forward pass on, the last block's MLP gives a millionth more."""
    if not body.ends():
        return
    last = body.ends()[-1]
    site = f"{last}.mlp_out"
    module = last_of(body, site)
    if module is not None:
        yield Fault(
            kind="state",
            name="a later pass",
            size="× (1 + 1e-06)",
            site=site,
            plant=lambda: hooked(module, _Remembering(1e-6), side="out"),
            harsh=lambda: hooked(module, _Remembering(1.0), side="out"),
        )


class _Remembering:
    """From its second call on a module gives one dimension too large."""

    def __init__(self, size: float) -> None:
        self.passes, self.size = 0, size

    def __call__(self, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG002 - a hook
        self.passes += 1
        if self.passes == 1:
            return output
        return on_first(output, lambda value: scaled_dimension(value, self.size))


def misread(site: str, size: float) -> Fault:
    """Give the fault that a site is read too large by a share of itself."""
    return _misread(site, f"× (1 + {size:g})", partial(_larger, site, size))


def _misread(site: str, size: str, change: Callable[[dict[str, Any]], Any]) -> Fault:
    return Fault(
        kind="hook semantics",
        name="hook",
        size=size,
        site=site,
        plant=as_it_is,
        reads=lambda runner: Misreading(runner, site, change),  # type: ignore[arg-type,return-value]
    )


def _larger(site: str, size: float, taken: dict[str, Any]) -> Any:
    return taken[site] * (1.0 + size)


def _at(other: str, taken: dict[str, Any]) -> Any:
    return taken[other] if other in taken else taken[LOGITS]


OPERATORS: Final = (scaled, neighbours, state)
