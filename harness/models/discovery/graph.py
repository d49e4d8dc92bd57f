"""Questions to a recording: which value was made of which, and where a tap can read it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.models.discovery.operations import (
    CONSTANT,
    CONTRACTIONS,
    LAYOUTS,
    NORMALISING,
    ROWS_KEPT,
    SOFTMAXES,
    plain,
)
from harness.models.family import Tap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from torch import Tensor

    from harness.models.discovery.recording import Call, Operation, Recording


@dataclass(frozen=True, slots=True)
class Graph:
    """A recording, and the values in it that were made of the tokens (`live`)."""

    recording: Recording
    live: frozenset[int]
    runs: Counter[str]

    @staticmethod
    def of(recording: Recording, tokens: Collection[int]) -> Graph:
        """Follow the tokens' embeddings through the recording."""
        live: set[int] = set()
        for operation in recording.operations:
            if plain(operation.name) in CONSTANT:
                continue
            looked_up = operation.name == "embedding" and operation.inputs[-1] in tokens
            read = (*operation.inputs, *operation.shared)
            if looked_up or any(number in live for number in read):
                live.update(operation.outputs)
        return Graph(recording, frozenset(live), Counter(call.path for call in recording.calls))

    def tensor(self, value: int) -> Tensor:
        """Give the numbers of a value."""
        return self.recording.tensors[value]

    def maker(self, value: int) -> Operation | None:
        """Give the operation that made a value; None for weights, constants and tokens."""
        index = self.recording.producer.get(value)
        return None if index is None else self.recording.operations[index]

    def made_by(self, value: int) -> str:
        """Name the operation that made a value."""
        maker = self.maker(value)
        return "" if maker is None else plain(maker.name)

    def made_at(self, value: int) -> int:
        """Give the place of the operation that made a value; -1 for those that none made."""
        return self.recording.producer.get(value, -1)

    def made_in(self, value: int, call: Call) -> bool:
        """Say whether a value arose while a module ran."""
        return call.start <= self.made_at(value) < call.end

    def inputs(self, value: int) -> tuple[int, ...]:
        """Give the values that a value was made of."""
        maker = self.maker(value)
        if maker is None:
            return ()
        if maker.writes and value != maker.outputs[0]:
            return tuple(dict.fromkeys((*maker.inputs, *maker.shared)))
        return maker.inputs

    def live_inputs(self, value: int) -> list[int]:
        """Give the live values that a value was made of."""
        return [number for number in self.inputs(value) if number in self.live]

    def ancestors(
        self, value: int, *, stop: Callable[[int], bool] = lambda _: False
    ) -> frozenset[int]:
        """Give the live values that a value was made of, itself too; those at a stop end there."""
        found: set[int] = set()
        waiting = [value]
        while waiting:
            number = waiting.pop()
            if number in found:
                continue
            found.add(number)
            if not stop(number):
                waiting.extend(self.live_inputs(number))
        return frozenset(found)

    def leads(self, first: int, last: int) -> bool:
        """Say whether a value was made of another one, through live values."""
        return first in self.ancestors(last, stop=lambda number: number <= first)

    def uses(self, value: int) -> frozenset[int]:
        """Give every value that a value was made of, whether it was made of the tokens or not."""
        found: set[int] = set()
        waiting = [value]
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting.extend(self.inputs(number))
        return frozenset(found)

    def is_product(self, value: int) -> bool:
        """Say whether a value is a product that sums over an axis."""
        return self.made_by(value) in CONTRACTIONS

    def sources(self, value: int) -> list[int]:
        """Give the products that a value was made of without another one between."""
        reached = self.ancestors(value, stop=self.is_product)
        return sorted(number for number in reached if self.is_product(number))

    def is_layout(self, value: int) -> bool:
        """Say whether a value holds the same numbers as another, laid out otherwise."""
        return self.made_by(value) in LAYOUTS

    def is_made_of(self, value: int, given: Collection[int]) -> bool:
        """Say whether a value was made of the tokens through the given values alone."""
        reached = self.ancestors(value, stop=lambda number: number in given)
        return all(number in given or self.live_inputs(number) for number in reached)

    def root(self, value: int, *, casts: bool = False) -> int:
        """Follow changes of layout back that keep all rows: copies, and [batch, pos] flattened.

        `casts`: changes of dtype are followed too.
        """
        while self.made_by(value) in ROWS_KEPT:
            before = self.inputs(value)
            if len(before) != 1 or not _same_rows(self.tensor(before[0]), self.tensor(value)):
                break
            if not casts and self.tensor(before[0]).dtype != self.tensor(value).dtype:
                break
            value = before[0]
        return value

    def same(self, one: int, other: int, *, casts: bool = False) -> bool:
        """Say whether two values are the same tensor, or a copy of it in the same shape."""
        return one == other or self.root(one, casts=casts) == self.root(other, casts=casts)

    def calls_within(self, outer: Call) -> Iterator[Call]:
        """Give the calls of modules below a call's, the outermost first."""
        for call in self.recording.calls:
            inside = outer.start <= call.start and call.end <= outer.end
            if inside and call.path.startswith(f"{outer.path}." if outer.path else ""):
                yield call

    def operations_in(self, call: Call) -> list[Operation]:
        """Give the operations that ran while a module ran."""
        return self.recording.operations[call.start : call.end]

    def is_norm(self, call: Call) -> bool:
        """Say whether a module's run is built like a norm: it averages, and sums no products."""
        if call.taken is None or call.given is None or call.given not in self.live:
            return False
        names = {plain(operation.name) for operation in self.operations_in(call)}
        if not names & NORMALISING or names & (CONTRACTIONS | SOFTMAXES):
            return False
        one, other = self.tensor(call.taken), self.tensor(call.given)
        return one.shape == other.shape and self.leads(call.taken, call.given)

    def innermost(self, *values: int) -> Call | None:
        """Give the shortest run of a module in which all of these values arose."""
        around = [
            call
            for call in self.recording.calls
            if all(self.made_in(value, call) for value in values)
        ]
        return min(around, key=lambda call: (call.end - call.start, -len(call.path)), default=None)

    def runs_once(self, call: Call) -> bool:
        """Say whether a tap at the module reads this call: it ran once."""
        return self.runs[call.path] == 1 and bool(call.path)

    def tap(self, value: int, calls: Collection[Call], *, inputs_first: bool = False) -> Tap | None:
        """Give where a value can be read among the calls: outermost modules come first."""
        outermost = sorted(
            (call for call in calls if self.runs_once(call)),
            key=lambda call: (call.start - call.end, len(call.path)),
        )
        given = [
            Tap(module=call.path)
            for call in outermost
            if call.given is not None and self.same(call.given, value)
        ]
        taken = [
            Tap(module=call.path, side="in")
            for call in outermost
            if call.taken is not None and self.same(call.taken, value)
        ]
        return next(iter((*taken, *given) if inputs_first else (*given, *taken)), None)

    def cuts(self, first: int, last: int) -> list[int]:
        """Give the values that every way from one value to another passes, in order."""
        reach = self.ancestors(last, stop=lambda number: number <= first)
        found, furthest = [], first
        after: dict[int, int] = {}
        made_of_first = {first}
        for number in sorted(reach):
            inputs = [before for before in self.live_inputs(number) if before in made_of_first]
            if number > first and inputs:
                made_of_first.add(number)
                for before in inputs:
                    after[before] = max(after.get(before, 0), number)
        for number in sorted(made_of_first):
            if furthest <= number:
                found.append(number)
            furthest = max(furthest, after.get(number, 0))
        return found


def _same_rows(one: Tensor, other: Tensor) -> bool:
    """Say whether both hold the same number of rows of one length."""
    if not one.ndim or not other.ndim:
        return False
    return one.shape[-1] == other.shape[-1] and one.numel() == other.numel()
