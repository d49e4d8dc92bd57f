"""The residual stream through a block: the sums on the way from what enters to what leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from harness.models.discovery.operations import SOFTMAXES

_BATCH_POS_D: Final = 3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.models.discovery.graph import Graph
    from harness.models.discovery.recording import Call


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


def _block(graph: Graph, call: Call, enters: int, leaves: int) -> Block:
    """Give a block's run; without steps, if no stream with a sum can be followed through it."""
    steps = _Way(graph, call, enters).to(leaves) or ()
    if not any(isinstance(step, Sum) for step in steps):
        steps = ()
    return Block(call=call, enters=enters, leaves=leaves, steps=steps)


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
        if value in self._norms:
            call = self._norms[value]
            before = None if call.taken is None else self.to(call.taken)
            return None if before is None else (*before, Normed(value, call))
        made_by = graph.made_by(value)
        if not graph.made_in(value, self._call) or graph.is_product(value) or made_by in SOFTMAXES:
            return None
        operands = graph.live_inputs(value)
        ways = [(operand, steps) for operand in operands if (steps := self.to(operand)) is not None]
        return self._through(value, operands, *ways[0]) if len(ways) == 1 else None

    def _through(
        self, value: int, operands: list[int], stream: int, steps: tuple[Step, ...]
    ) -> tuple[Step, ...] | None:
        """Give the steps behind an operation on the stream; of two live operands, it must add."""
        others = [number for number in operands if number != stream]
        if not others:
            return steps
        shape = self._graph.tensor(value).shape
        alike = len(others) == 1 and self._graph.tensor(others[0]).shape == shape
        adds = self._graph.made_by(value) == "add" and alike
        return (*steps, Sum(value, stream, others[0])) if adds else None


def stacks_of(graph: Graph, model: Any) -> list[tuple[str, tuple[Block, ...]]]:
    """Give the lists of modules of which each takes what the one before gives, outermost only.

    A list of one module, or one that is run as a whole, is taken only if a stream with sums can
    be followed through all of it.
    """
    found: list[tuple[str, tuple[Block, ...]]] = []
    for path, calls in _lists(graph, model):
        if any(path.startswith(f"{outer}.") for outer, _ in found):
            continue
        blocks = tuple(
            _block(graph, call, enters, leaves) for call, enters, leaves in _chained(graph, calls)
        )
        several = len(blocks) > 1 and isinstance(model.get_submodule(path), nn.ModuleList)
        if blocks and (several or all(block.steps for block in blocks)):
            found.append((path, blocks))
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


def _chained(graph: Graph, calls: list[Call]) -> list[tuple[Call, int, int]]:
    """Give what enters and leaves each module, if each takes what the one before gives."""
    entered = _entering(graph, calls[0])
    chain: list[tuple[Call, int, int]] = []
    for call in calls:
        if chain:
            same = (number for number in call.arguments if graph.same(number, chain[-1][2]))
            entered = next(same, None)
        if entered is None or call.given is None:
            return []
        chain.append((call, entered, call.given))
    return chain


def _entering(graph: Graph, call: Call) -> int | None:
    """Give the argument of a list's first module that is live and has its output's shape."""
    if call.given is None:
        return None
    shape = graph.tensor(call.given).shape
    if len(shape) != _BATCH_POS_D:
        return None  # several streams side by side (Gemma 3n): no site is laid out so
    taken = (call.taken, *call.arguments)
    fitting = (number for number in taken if number is not None and number in graph.live)
    return next((number for number in fitting if graph.tensor(number).shape == shape), None)
