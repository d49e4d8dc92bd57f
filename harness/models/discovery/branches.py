"""What is added to the stream in a block: attention, MLP or another mixer of positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.models.discovery.operations import TOP, plain
from harness.models.discovery.replaying import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.models.discovery.attention import Attention
    from harness.models.discovery.graph import Graph
    from harness.models.discovery.recording import Call
    from harness.models.discovery.stream import Block

Kind = Literal["attn", "cross_attn", "mlp", "mixer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One branch: what it adds, what of the stream it reads, and through which norm.

    `value` is what is added; `total` the stream behind it; `inner` all live values between.
    """

    kind: Kind
    value: int
    total: int
    reads: int
    inner: frozenset[int]
    norm: Call | None
    attention: Attention | None


def branches_of(
    graph: Graph, block: Block, attentions: tuple[Attention, ...]
) -> tuple[Branch, ...]:
    """Give the branches of a block, in the order in which they are added."""
    found = []
    for summed in block.sums:
        for value in _leaves(graph, block, summed.branch, attentions):
            branch = _branch(graph, block, value, summed.value, attentions)
            if branch is not None:
                found.append(branch)
    return tuple(found)


def _within(graph: Graph, block: Block, value: int) -> frozenset[int]:
    return graph.ancestors(
        value, stop=lambda number: number in block.stream or not graph.made_in(number, block.call)
    )


def _attentions(inner: frozenset[int], attentions: tuple[Attention, ...]) -> tuple[Attention, ...]:
    return tuple(attention for attention in attentions if attention.heads_out in inner)


def _leaves(
    graph: Graph, block: Block, value: int, attentions: tuple[Attention, ...]
) -> Iterator[int]:
    """Split a sum of two branches, one of which attends (parallel blocks); give each."""
    while graph.is_layout(value) and graph.root(value) != value:
        value = graph.root(value)
    operands = graph.live_inputs(value)
    if graph.made_by(value) == "add" and len(operands) == 2:  # noqa: PLR2004 - a sum has two
        attending = [
            bool(_attentions(_within(graph, block, number), attentions)) for number in operands
        ]
        if sum(attending) == 1:
            first, second = operands if attending[0] else reversed(operands)
            yield from (first, second)
            return
    yield value


def _branch(
    graph: Graph, block: Block, value: int, total: int, attentions: tuple[Attention, ...]
) -> Branch | None:
    """Give a branch; None if it reads several values of the stream, or none."""
    inner = _within(graph, block, value)
    read = inner & block.stream
    if len(read) != 1:
        return None
    (reads,) = read
    attending = _attentions(inner, attentions)
    return Branch(
        kind=_attending_kind(attending) or _other_kind(graph, block, value, reads, inner),
        value=value,
        total=total,
        reads=reads,
        inner=inner,
        norm=_norm(graph, block, reads, inner),
        attention=attending[0] if len(attending) == 1 else None,
    )


def _attending_kind(attending: tuple[Attention, ...]) -> Kind | None:
    if not attending:
        return None
    return "cross_attn" if attending[0].crosses else "attn"


def _other_kind(graph: Graph, block: Block, value: int, reads: int, inner: frozenset[int]) -> Kind:
    """Tell an MLP, which chooses experts or keeps positions apart, from what mixes positions."""
    chooses = any(
        plain(operation.name) in TOP and inner.intersection(operation.outputs)
        for operation in graph.operations_in(block.call)
    )
    batch = graph.tensor(block.enters).shape[0]
    return "mlp" if chooses or is_local(graph, reads, value, batch) else "mixer"


def _norm(graph: Graph, block: Block, reads: int, inner: frozenset[int]) -> Call | None:
    """Give the norm at which a branch reads the stream; None if there is none, or several."""
    norms = [
        call
        for call in graph.calls_within(block.call)
        if call.taken is not None
        and graph.same(call.taken, reads, casts=True)
        and call.given in inner
        and graph.is_norm(call)
    ]
    outermost = [call for call in norms if not any(_holds(other, call) for other in norms)]
    return outermost[0] if len(outermost) == 1 else None


def _holds(outer: Call, inner: Call) -> bool:
    return outer is not inner and inner.path.startswith(f"{outer.path}.")
