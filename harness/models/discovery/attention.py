"""Softmax attention in a block: its two products, and where queries, keys and values are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.models.discovery.operations import CONTRACTIONS, SOFTMAXES, plain
from harness.models.family import Tap
from harness.models.layouts import by_group, grouped, heads, interleaved, kv_heads, n_heads, third

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from harness.models.discovery.graph import Graph
    from harness.models.discovery.recording import Call, Operation
    from harness.models.family import View

_FACTORS: Final = 2
_BY_HEAD: Final = 4  # the axes of queries and keys by head
_SEPARATE: Final[Mapping[str, View]] = {"q": heads, "k": kv_heads, "v": kv_heads}
_PLACES: Final = {"q": (0, 1, 2), "k": (1, 2, 0), "v": (2, 1, 0)}


def _views(name: str) -> Iterator[View]:
    """Give how a projection can be laid out, the plainest first: of those that agree, any will do.

    Where q, k and v are fused, they may stand in any order, the usual one first.
    """
    yield _SEPARATE[name]
    usual, *_ = _PLACES[name]
    yield from (third(usual), interleaved(usual), grouped(usual), by_group(usual))
    for place in _PLACES[name][1:]:
        yield from (third(place), interleaved(place))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One softmax over keys: the values that it multiplies, makes and is made of.

    `crosses`: its keys were made of something else than what entered the block.
    """

    query: int
    key_transposed: int
    scores: int
    pattern: int
    value: int
    heads_out: int
    crosses: bool
    module: str


def attentions_in(graph: Graph, block: Call, enters: int) -> tuple[Attention, ...]:
    """Give the softmax attentions that ran in a block, in order."""
    found = []
    for operation in graph.operations_in(block):
        if plain(operation.name) in SOFTMAXES:
            attention = _around(graph, operation, enters)
            if attention is not None:
                found.append(attention)
    return tuple(found)


def _around(graph: Graph, softmax: Operation, enters: int) -> Attention | None:
    """Give the attention of a softmax; None if it weighs no values by queries and keys."""
    scores, pattern = softmax.inputs[0], softmax.outputs[0]
    if scores not in graph.live:
        return None
    products = [number for number in graph.sources(scores) if _factors(graph, number)]
    weighed = _next_product(graph, pattern)
    if len(products) != 1 or weighed is None:
        return None
    query, key = _factors(graph, products[0])
    value = next(number for number in _factors(graph, weighed) if number != _last(graph, pattern))
    call = graph.innermost(products[0], pattern, weighed)
    if call is None or not graph.runs_once(call):
        return None
    return Attention(
        query=query,
        key_transposed=key,
        scores=scores,
        pattern=pattern,
        value=value,
        heads_out=weighed,
        crosses=enters not in graph.ancestors(key, stop=lambda number: number <= enters),
        module=call.path,
    )


def _factors(graph: Graph, product: int) -> tuple[int, ...]:
    """Give the two live factors of a product; nothing if one of them is a weight."""
    maker = graph.maker(product)
    if maker is None:
        return ()
    numbers = [getattr(argument, "number", None) for argument in maker.args[-_FACTORS:]]
    live = tuple(number for number in numbers if number is not None and number in graph.live)
    return live if len(live) == _FACTORS else ()


def _onwards(graph: Graph, value: int) -> Iterator[tuple[int, Operation]]:
    """Follow a value forward through all that is no product; give the products that take it."""
    waiting, seen = [value], {value}
    while waiting:
        number = waiting.pop(0)
        for index in graph.recording.consumers.get(number, ()):
            operation = graph.recording.operations[index]
            if plain(operation.name) in CONTRACTIONS:
                yield number, operation
                continue
            new = [output for output in operation.outputs if output not in seen]
            seen.update(new)
            waiting.extend(new)


def _next_product(graph: Graph, pattern: int) -> int | None:
    """Give the product in which a pattern weighs the values."""
    for number, operation in _onwards(graph, pattern):
        output = operation.outputs[0]
        if number in _factors(graph, output):
            return output
    return None


def _last(graph: Graph, pattern: int) -> int:
    """Give the value that enters the product for a pattern."""
    return next(
        number
        for number, operation in _onwards(graph, pattern)
        if number in _factors(graph, operation.outputs[0])
    )


def projection(
    graph: Graph, name: str, factor: int, block: Call, config: Any
) -> tuple[Tap | None, str]:
    """Give where a factor of attention was projected, or why that cannot be told.

    The last product that it was made of is that of a module, whose output is laid out by head in
    one of the known ways: in which one, its numbers tell, before anything turns or scales them.
    """
    sources = graph.sources(factor)
    if len(sources) != 1:
        return None, f"made of {len(sources)} projections"
    call = graph.innermost(sources[0])
    if call is None or call.given is None or not graph.runs_once(call):
        return None, "its projection is no module that runs once"
    cuts = graph.cuts(sources[0], factor)
    if call.given not in cuts or call.end > block.end:
        return None, "its projection is no module of its own"
    size = graph.tensor(factor).shape[-2 if name == "k" else -1]
    for view in _views(name):
        if _lays_out(graph, cuts[cuts.index(call.given) :], view, size, config):
            return Tap(module=call.path, view=view), ""
    return None, f"laid out by {call.path} in no known way"


def _lays_out(graph: Graph, cuts: list[int], view: View, size: int, config: Any) -> bool:
    """Say whether a view of what a module gives is what follows from it by layout alone.

    Where a norm, a clip or a number stands between and keeps the shape, what comes behind it is
    laid out instead. `size` is that of a head.
    """
    base = cuts[0]
    for number in cuts[1:]:
        if graph.tensor(number).shape != graph.tensor(base).shape:
            break
        base = number
    try:
        expected = view(graph.tensor(base), config)
    except (RuntimeError, AttributeError):
        return False  # the sizes do not divide, or the config does not tell them
    if expected.shape[-1] != size:
        return False
    return any(
        _equal(expected, candidate)
        for number in reversed(_by_layout_alone(graph, base, cuts))
        for candidate in _by_position(graph.tensor(number), n_heads(config), expected)
    )


def _by_layout_alone(graph: Graph, base: int, cuts: list[int]) -> list[int]:
    """Give the values that follow a base by changes of layout alone."""
    found = [base]
    for number in cuts:
        if number <= base:
            continue
        if not graph.is_layout(number):
            break
        found.append(number)
    return found


def _by_position(tensor: Tensor, count: int, like: Tensor) -> Iterator[Tensor]:
    """Give the ways to read a tensor as [batch, pos, head, d_head], repeated heads once."""
    if tensor.ndim == _BY_HEAD - 1 and tensor.shape[0] == count * like.shape[0]:
        tensor = tensor.unflatten(0, (-1, count))
    if tensor.ndim != _BY_HEAD:
        return
    for laid_out in (tensor, tensor.transpose(1, 2)):
        repeated = laid_out.shape[2] // like.shape[2]
        yield laid_out[:, :, :: max(1, repeated)]


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.to(other.dtype), other)


def is_weighed_itself(graph: Graph, attention: Attention) -> bool:
    """Say whether the pattern weighs what the projection gave, neither normed nor clipped."""
    sources = graph.sources(attention.value)
    if len(sources) != 1:
        return False
    call = graph.innermost(sources[0])
    if call is None or call.given is None:
        return False
    return _layout_between(graph, call.given, attention.value)


def output_of(graph: Graph, attention: Attention, block: Call) -> tuple[Tap | None, int, str]:
    """Give where the heads enter the output projection and as which value, or why not."""
    for number, operation in _onwards(graph, attention.heads_out):
        if not _layout_between(graph, attention.heads_out, number):
            return None, -1, "something is computed between the heads and the output projection"
        call = graph.innermost(operation.outputs[0])
        if call is None or call.taken is None or not graph.runs_once(call):
            return None, -1, "the output projection is no module that runs once"
        if not _layout_between(graph, attention.heads_out, call.taken) or call.end > block.end:
            return None, -1, "the output projection is no module of its own"
        return Tap(module=call.path, side="in", view=heads), call.taken, ""
    return None, -1, "no output projection"


def _layout_between(graph: Graph, first: int, last: int) -> bool:
    cuts = graph.cuts(first, last)
    return first in cuts and last in cuts and all(graph.is_layout(cut) for cut in cuts[1:])
