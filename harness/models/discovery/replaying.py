"""Runs a part of a recording again from other numbers, by the operations that were recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map_only

from harness.models.discovery.recording import Value

if TYPE_CHECKING:
    from torch import Tensor

    from harness.models.discovery.graph import Graph


def replayed(graph: Graph, given: dict[int, Tensor], value: int) -> Tensor:
    """Give a value as it would be had the given ones been others; weights stay as they are.

    Raises:
        RuntimeError: the operations do not take these numbers.
        LookupError: an operation wrote into a tensor that another one shares.
    """
    known = dict(given)
    waiting = set(graph.ancestors(value, stop=lambda number: number in given)) - set(given)
    indices = sorted({graph.made_at(number) for number in waiting})
    with torch.no_grad():
        for index in indices:
            operation = graph.recording.operations[index]
            read = (*operation.inputs, *operation.shared)
            if index < 0 or not any(number in known for number in read):
                continue
            _run(graph, operation, known)
            if not waiting.intersection(operation.outputs) <= set(known):
                message = f"{operation.name} wrote into a tensor that another one shares"
                raise LookupError(message)
    return known[value]


def _run(graph: Graph, operation: Any, known: dict[int, Tensor]) -> None:
    def tensor_of(number: int) -> Tensor:
        return known.get(number, graph.tensor(number))

    def held(value: Value) -> Tensor:
        tensor = tensor_of(value.number)
        return tensor.clone() if operation.writes else tensor

    args = tree_map_only(Value, held, operation.args)
    kwargs = tree_map_only(Value, held, dict(operation.kwargs))
    result = operation.function(*args, **kwargs)
    results = [result] if isinstance(result, torch.Tensor) else list(result)
    pairs = zip(operation.outputs, results, strict=False)
    known.update((number, tensor) for number, tensor in pairs if isinstance(tensor, torch.Tensor))


def is_local(graph: Graph, first: int, last: int, batch: int) -> bool:
    """Say whether each position of a value depends on the same position of another alone.

    The first position is changed and the rest of the way run again. A way that cannot be run
    again is not local as far as anyone knows.
    """
    before, original = graph.tensor(first), graph.tensor(last)
    changed = before.clone()
    rows = _by_position(changed, batch)
    rows[:, 0] = rows[:, 0].flip(-1)
    try:
        after = replayed(graph, {first: changed}, last)
    except (RuntimeError, LookupError):
        return False
    differs = _by_position(after != original, batch).flatten(2).any(-1)
    return bool(differs[:, 0].any()) and not bool(differs[:, 1:].any())


def _by_position(tensor: Tensor, batch: int) -> Tensor:
    """View [batch * pos, d] as [batch, pos, d]."""
    return tensor.view(batch, -1, tensor.shape[-1])
