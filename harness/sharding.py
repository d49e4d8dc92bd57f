"""Shards: a run's cells divided over machines; all cells of a case in one, and none in two.

Which shard has a case follows from the names and numbers of what is asked, so that machines that
know nothing of each other divide alike. docs/decisions/0021-shards-know-the-whole.md says how.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.case import SHRUNK, SYNTHETIC
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.case import Cell

_WORDS: Final = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")
LARGE: Final = 20
"""How many cells of a tiny checkpoint take as long as one of another, for dividing alone.

Source: gpt2-small's shape against tiny gpt2, float32 in three modes, one thread: 8.1 s against
0.4 s a cell (docs/decisions/0021-shards-know-the-whole.md).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Which of how many equal parts of a run is asked, from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        """Print as `2/4`, which is how it is asked for."""
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a shard of a run was asked, of what whole: stored in its run.json as `shard`.

    `cells` is how many it has, `of` how many all shards have together, `whole` a digest of their
    names: shards of two questions are not one run.
    """

    index: int
    count: int
    cells: int
    of: int
    whole: str

    def stored(self) -> dict[str, Any]:
        """Give it as plain JSON values."""
        return asdict(self)


def shard_named(words: str) -> Shard:
    """Give the shard that is asked for as `i/n`.

    Raises:
        UsageError: it is not written so, or there is no such shard.
    """
    found = _WORDS.fullmatch(words)
    if found is None or int(found[1]) > int(found[2]):
        message = (
            f"--shard {words!r} is no shard\n"
            "  allowed: i/n with 1 ≤ i ≤ n, such as 1/4 for the first of four\n"
            "  next:    one run for each i, then harness merge"
        )
        raise UsageError(message)
    return Shard(index=int(found[1]), count=int(found[2]))


def cases_by_shard(weights: Mapping[str, int], count: int) -> list[frozenset[str]]:
    """Divide cases, the heaviest first, each to the shard that has least so far.

    The same cases with the same weights are divided in the same way, in whatever order they come.
    """
    shares: list[set[str]] = [set() for _ in range(count)]
    loads = [0] * count
    for name in sorted(weights, key=lambda name: (-weights[name], name)):
        lightest = loads.index(min(loads))
        shares[lightest].add(name)
        loads[lightest] += weights[name]
    return [frozenset(share) for share in shares]


def divided(cells: Iterable[Cell], shard: Shard) -> tuple[frozenset[str], Part]:
    """Give the ids of a shard's own cells, and what it says of itself, of all that is asked."""
    asked = {cell.id: cell for cell in cells}
    weights: Counter[str] = Counter()
    for cell in asked.values():
        tiny = cell.case.checkpoint in {SYNTHETIC, SHRUNK}
        weights[cell.case.id] += 1 if tiny else LARGE
    cases = cases_by_shard(weights, shard.count)[shard.index - 1]
    own = frozenset(name for name, cell in asked.items() if cell.case.id in cases)
    whole = hashlib.sha256("\n".join(sorted(asked)).encode()).hexdigest()
    part = Part(index=shard.index, count=shard.count, cells=len(own), of=len(asked), whole=whole)
    return own, part
