"""Reads attention scores, patterns and rotated queries and keys inside `transformers`.

No module computes them, and each release names the functions that do otherwise. What they all
share is one softmax over the keys and, before it, one product of queries and keys; a
`TorchFunctionMode` that is awake only while an attention module runs sees both.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.overrides import TorchFunctionMode

from harness.models.layouts import n_heads, n_kv_heads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from harness.models.ports.asking import Edit, Taken

_SOFTMAX: Final = frozenset({torch.nn.functional.softmax, torch.softmax, torch.Tensor.softmax})
_PRODUCTS: Final = frozenset(
    {
        torch.matmul,
        torch.Tensor.matmul,
        torch.Tensor.__matmul__,
        torch.bmm,
        torch.Tensor.bmm,
    }
)
_FUSED: Final = torch.nn.functional.scaled_dot_product_attention
_BATCH_HEAD_POS_X: Final = 4  # the axes of scores [batch, head, query, key] and of their factors
# These take what is added to the product first (GPT-NeoX and BLOOM of transformers 4).
_ADDING_PRODUCTS: Final = frozenset({torch.baddbmm, torch.Tensor.baddbmm})


class AttentionTrace(TorchFunctionMode):
    """Keeps, per watched attention module, `attn_scores`, `pattern`, `rot_q` and `rot_k`.

    `attn_scores` is what enters the softmax, mask and biases included; a sink's column is left
    out of both matrices. `rot_k` has key-value heads: the repetition for grouped queries is undone.
    """

    def __init__(
        self, *, config: Any, into: Taken, edits: Mapping[str, Edit] | None = None
    ) -> None:
        """Start with nothing watched; what is seen goes `into`, `edits` are written to patterns."""
        super().__init__()
        self._edits = edits or {}
        self._into = into
        self._seen: dict[str, Tensor] = {}
        self._config = config
        self._prefix: str | None = None
        self._product: tuple[Tensor, Tensor] | None = None

    @contextmanager
    def watching(self, attention: nn.Module, prefix: str) -> Iterator[None]:
        """Be awake while the module runs, and file what is seen under the prefix."""

        def enter(*_: object) -> None:
            self._prefix, self._product = prefix, None

        def leave(*_: object) -> None:
            self._prefix = None
            for site, tensor in self._seen.items():
                self._into.take(site, tensor)
            self._seen.clear()

        handles = (
            attention.register_forward_pre_hook(enter),
            attention.register_forward_hook(leave, always_call=True),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function, and keep what is of interest."""
        result = func(*args, **(kwargs or {}))
        if self._prefix is not None:
            pattern = f"{self._prefix}.pattern"
            if func in _PRODUCTS:
                self._product = (args[0], args[1])
                if pattern in self._seen:
                    # What weighs the values: a softmax in float32 is rounded before.
                    self._seen[pattern] = self._seen[pattern].to(args[0].dtype)
            elif func in _ADDING_PRODUCTS:
                self._product = _added_product(*args, **(kwargs or {}))
            elif func is _FUSED:
                self._keep_factors(args[0], args[1].transpose(-1, -2))
            elif func in _SOFTMAX and pattern not in self._seen:
                if edit := self._edits.get(pattern):
                    result = edit(result)
                self._keep(scores=args[0], pattern=result)
        return result

    def _keep(self, *, scores: Tensor, pattern: Tensor) -> None:
        heads = n_heads(self._config)
        if self._product is not None:
            query, key_transposed = self._product
            n_keys = key_transposed.shape[-1]
            if _queries_before_heads(scores, query, heads):
                scores, pattern = scores.transpose(1, 2), pattern.transpose(1, 2)
            else:
                self._keep_factors(*(_by_head(factor, heads) for factor in self._product))
            scores, pattern = scores[..., :n_keys], pattern[..., :n_keys]
        self._seen[f"{self._prefix}.attn_scores"] = _by_head(scores.detach(), heads).clone()
        self._seen[f"{self._prefix}.pattern"] = _by_head(pattern.detach(), heads).clone()

    def _keep_factors(self, query: Tensor, key_transposed: Tensor) -> None:
        key = key_transposed.transpose(-1, -2)
        if query.ndim == key.ndim == _BATCH_HEAD_POS_X:
            key = key[:, :: max(1, key.shape[1] // n_kv_heads(self._config))]
            self._seen[f"{self._prefix}.rot_q"] = _by_position(query)
            self._seen[f"{self._prefix}.rot_k"] = _by_position(key)


def _added_product(
    input: Tensor,  # noqa: A002, ARG001 - torch's name
    batch1: Tensor,
    batch2: Tensor,
    **_: object,
) -> tuple[Tensor, Tensor]:
    return batch1, batch2


def _by_head(tensor: Tensor, heads: int) -> Tensor:
    """Lay [batch * head, …, …] out as [batch, head, …, …] (OPT, GPT-NeoX of transformers 4)."""
    folded = tensor.ndim == _BATCH_HEAD_POS_X - 1 and tensor.shape[0] % heads == 0
    return tensor.unflatten(0, (-1, heads)) if folded else tensor


def _queries_before_heads(scores: Tensor, query: Tensor, heads: int) -> bool:
    """Say whether scores are [batch, query, head, key]: GPTBigCode's of transformers 4.

    Its queries are then [batch, query * head, d_head], for its one key-value head.
    """
    if scores.ndim != _BATCH_HEAD_POS_X or scores.shape[2] != heads:
        return False
    return query.shape[:-1] == (scores.shape[0], scores.shape[1] * heads)


def _by_position(tensor: Tensor) -> Tensor:
    """Lay [batch, head, pos, d_head] out as [batch, pos, head, d_head]."""
    return tensor.detach().transpose(-2, -3).clone()
