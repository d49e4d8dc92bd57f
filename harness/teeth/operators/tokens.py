"""Faults of what a text becomes: BOS twice or never, another token."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.teeth.fault import Fault, attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from harness.teeth.body import Body


def tokens(body: Body) -> Iterator[Fault]:
    """BOS twice, BOS never, and the last id one too high, by a port's own `to_tokens`."""
    if body.tokenizes is None:
        return
    for name, size, change in _CHANGES:
        yield Fault(
            kind="BOS and tokenizer",
            name=name,
            size=size,
            site="tokens",
            plant=partial(attribute, body.tokenizes, "to_tokens", _Changed(body, change)),
            probe="tokens",
        )


class _Changed:
    """A `to_tokens` whose ids are changed; `prepend_bos` is what it was asked."""

    def __init__(self, body: Body, change: Callable[[Tensor, bool], Tensor]) -> None:
        self.before, self.change = body.tokenizes.to_tokens, change

    def __call__(self, texts: Any, *, prepend_bos: bool | None = None) -> Tensor:
        ids: Tensor = self.before(texts, prepend_bos=prepend_bos)
        return self.change(ids, prepend_bos is True)


def _twice(ids: Tensor, begun: bool) -> Tensor:  # noqa: FBT001 - a change's signature
    return torch.cat((ids[:, :1], ids), dim=1) if begun else ids


def _never(ids: Tensor, begun: bool) -> Tensor:  # noqa: FBT001 - a change's signature
    return ids[:, 1:] if begun else ids


def _another(ids: Tensor, begun: bool) -> Tensor:  # noqa: ARG001, FBT001 - a change's signature
    ids = ids.clone()
    ids[:, -1] += 1
    return ids


_CHANGES: Final = (
    ("BOS", "twice", _twice),
    ("BOS", "never", _never),
    ("last id", "+ 1", _another),
)

OPERATORS: Final = (tokens,)
