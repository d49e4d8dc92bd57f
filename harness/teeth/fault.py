"""A fault: what is planted in a loaded model, and the site that must be named first."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from harness.models.ports import Runner

Plant = AbstractContextManager[None]

KINDS: Final = {
    "parameter": "a parameter dropped, misread, or a little off",
    "loading": "weights of another layer, or untied from the embedding",
    "folding": "weights folded twice",
    "head order": "heads in another order, of queries, keys or the output",
    "attention scale": "scores scaled by another factor",
    "causal mask": "a key that lies ahead, or none of those behind",
    "mask constant": "masked keys that still count a little",
    "window": "off by one, dropped, or on other layers",
    "padding": "padded keys that count",
    "rotary": "other frequencies, pairs, scaling, or fewer dimensions",
    "positions": "learned positions off by one",
    "relative bias": "ALiBi or relative positions off",
    "epsilon": "a norm's epsilon",
    "norm": "1 + w for w, a norm left out",
    "upcast": "rounded where it should not be",
    "activation": "another activation function",
    "multiplier": "a multiplier of embedding, branch or logits off",
    "softcap": "a cap off or left out",
    "topology": "a branch or a block left out, or added twice",
    "router": "another number of experts, or other weights of them",
    "sinks": "attention sinks off or left out",
    "BOS and tokenizer": "BOS twice or never, another token",
    "hook semantics": "the logits are right, the activation is not",
    "state": "a forward pass that remembers the one before",
    "KV cache": "keys of earlier tokens off",
    "round trip": "a config that says another thing than the model was made with",
}
"""The classes of faults, in the words of the field. A fault of each is in the bank."""


class NotPlantedError(HarnessError):
    """The fault leaves the model as it was: its dtype rounds it away, or it is so already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of one loaded model.

    `site` is where it must be named first; where a cell does not compare it, the next one that it
    reaches (`harness.teeth.flow`). `plant` gives a context within which the fault is there; all is
    as before when it ends. `harsh` plants the same at a size that nothing could miss: where even
    that changes no bit, the port does not read what was changed. `reads` gives the runner that
    misreads, of faults in reading. `probe` names the probe that must see it, of faults that a
    comparison cannot.
    """

    kind: str
    name: str
    size: str
    site: str
    plant: Callable[[], Plant]
    harsh: Callable[[], Plant] | None = None
    reads: Callable[[Runner], Runner] | None = None
    probe: str | None = None

    def __str__(self) -> str:
        """Print as `epsilon × 1.2 at blocks.0.ln1.out`."""
        return f"{self.name} {self.size} at {self.site}"


@contextmanager
def as_it_is() -> Iterator[None]:
    """Plant nothing."""
    yield


@contextmanager
def changed(parameter: Tensor, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change a parameter or buffer in place, and put it back.

    Raises:
        NotPlantedError: nothing is changed: its dtype rounds it away, or it was so already.
    """
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.copy_(change(before.clone()))
    try:
        if torch.equal(before, parameter):
            message = f"{str(parameter.dtype).removeprefix('torch.')} holds no such change of it"
            raise NotPlantedError(message)
        yield
    finally:
        with torch.no_grad():
            parameter.copy_(before)


@contextmanager
def attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute, and put it back."""
    before = getattr(owner, name)
    _set(owner, name, value)
    try:
        yield
    finally:
        _set(owner, name, before)


def _set(owner: Any, name: str, value: Any) -> None:
    """Set an attribute; a module's own child may become a plain function, and be one again."""
    if isinstance(owner, torch.nn.Module) and name in owner._modules:  # noqa: SLF001
        delattr(owner, name)
    setattr(owner, name, value)


def on_first(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change what a module gives; of a tuple the first."""
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    return change(output)


def scaled_dimension(value: Tensor, size: float) -> Tensor:
    """Give a tensor with the first entry of its last axis larger by a share of itself.

    Not all of it larger, which a norm behind it divides out, nor by adding, which centring does.
    """
    value = value.clone()
    value[..., 0] *= 1.0 + size
    return value


@contextmanager
def hooked(
    module: nn.Module, hook: Callable[..., Any], *, side: Literal["in", "out"]
) -> Iterator[None]:
    """Put a forward hook on a module: `in` takes args and kwargs, `out` args and output."""
    if side == "in":
        handle = module.register_forward_pre_hook(
            lambda _, args, kwargs: hook(args, kwargs), with_kwargs=True
        )
    else:
        handle = module.register_forward_hook(lambda _, args, output: hook(args, output))
    try:
        yield
    finally:
        handle.remove()
