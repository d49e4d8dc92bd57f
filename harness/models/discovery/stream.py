"""The residual stream through a block: the sums on the way from what enters to what leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from harness.models.discovery.operations import SOFTMAXES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.models.discovery.graph import Graph
    from harness.models.discovery.recording import Call

_OPERANDS: Final = 2


@dataclass(frozen=True, slots=True)
class Sum:
    """A branch is added to the stream, which holds `value` from then on."""

    value: int
    stream: int
    branch: int


@dataclass(frozen=True, slots=True)
class Normed:
    """The stream itself passes a norm, and holds `value` from then on."""

    value: int
    call: Call


Step = Sum | Normed


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block's run: what enters and leaves it, and the steps of the stream between."""

    call: Call
    enters: int
    leaves: int
    steps: tuple[Step, ...]

    @property
    def sums(self) -> tuple[Sum, ...]:
        """Give the sums alone."""
        return tuple(step for step in self.steps if isinstance(step, Sum))

    @property
    def stream(self) -> frozenset[int]:
        """Give every value that the stream holds in the block."""
        held = {self.enters, *(step.value for step in self.steps)}
        return frozenset(held | {step.stream for step in self.sums})


def block_of(graph: Graph, call: Call, enters: int) -> Block | None:
    """Give a block's run; None if no stream passes it, or no sum stands in it."""
    if call.given is None:
        return None
    steps = _Way(graph, call, enters).to(call.given)
    if steps is None or not any(isinstance(step, Sum) for step in steps):
        return None
    return Block(call=call, enters=enters, leaves=call.given, steps=steps)


class _Way:
    """The way of the stream, followed back from where it leaves the block.

    It passes no product and no softmax. At a sum one operand leads back to what entered; if both
    do, which of them is the stream cannot be told.
    """

    def __init__(self, graph: Graph, call: Call, enters: int) -> None:
        self._graph = graph
        self._call = call
        self._enters = enters
        self._known: dict[int, tuple[Step, ...] | None] = {}
        self._norms = {
            inner.given: inner
            for inner in reversed(list(graph.calls_within(call)))
            if inner.given is not None and graph.is_norm(inner)
        }

    def to(self, value: int) -> tuple[Step, ...] | None:
        """Give the steps from what enters the block to a value."""
        if value == self._enters:
            return ()
        if value not in self._known:
            self._known[value] = self._steps(value)
        return self._known[value]

    def _steps(self, value: int) -> tuple[Step, ...] | None:
        graph = self._graph
        if value in self._norms and value != self._enters:
            call = self._norms[value]
            before = None if call.taken is None else self.to(call.taken)
            return None if before is None else (*before, Normed(value, call))
        made_by = graph.made_by(value)
        if not graph.made_in(value, self._call) or graph.is_product(value) or made_by in SOFTMAXES:
            return None
        operands = graph.live_inputs(value)
        ways = [(operand, steps) for operand in operands if (steps := self.to(operand)) is not None]
        if len(ways) != 1:
            return None
        (operand, steps), *_ = ways
        if len(operands) != _OPERANDS:
            return steps
        if made_by != "add":
            return None
        (other,) = (number for number in operands if number != operand)
        if graph.tensor(other).shape != graph.tensor(value).shape:
            return None
        return (*steps, Sum(value, operand, other))


def stacks_of(graph: Graph, model: Any) -> list[tuple[str, tuple[Block, ...]]]:
    """Give the lists of modules through which one stream runs, outermost lists only."""
    found: list[tuple[str, tuple[Block, ...]]] = []
    for path, calls in _lists(graph, model):
        if any(path.startswith(f"{outer}.") for outer, _ in found):
            continue
        entered = _chained(graph, calls)
        if entered is None:
            continue
        blocks = [block_of(graph, call, value) for call, value in zip(calls, entered, strict=True)]
        whole = tuple(block for block in blocks if block is not None)
        if whole and len(whole) == len(blocks):
            found.append((path, whole))
    return found


def _lists(graph: Graph, model: Any) -> Iterator[tuple[str, list[Call]]]:
    """Give each list of modules that ran once each, in the order of the list, with their calls."""
    by_path = {call.path: call for call in graph.recording.calls if graph.runs_once(call)}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            names = [f"{path}.{name}" for name, _ in module.named_children()]
            calls = [by_path[name] for name in names if name in by_path]
            starts = [call.start for call in calls]
            if calls and len(calls) == len(names) and starts == sorted(starts):
                yield path, calls


def _chained(graph: Graph, calls: list[Call]) -> list[int] | None:
    """Give what enters each module, if it is what leaves the one before; None if it is not."""
    first = _entering(graph, calls[0])
    if first is None:
        return None
    entered = [first]
    for before, call in zip(calls, calls[1:], strict=False):
        if before.given is None:
            return None
        same = [number for number in call.arguments if graph.same(number, before.given)]
        if not same:
            return None
        entered.append(same[0])
    return entered


def _entering(graph: Graph, call: Call) -> int | None:
    """Give the argument of a list's first module that is live and has its output's shape."""
    if call.given is None:
        return None
    shape = graph.tensor(call.given).shape
    taken = (call.taken, *call.arguments)
    fitting = (number for number in taken if number is not None and number in graph.live)
    return next((number for number in fitting if graph.tensor(number).shape == shape), None)
