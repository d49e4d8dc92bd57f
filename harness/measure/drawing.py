"""Random token batches by hypothesis, and the smallest batch that still fails."""

from __future__ import annotations

import contextlib
import functools
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import hypothesis
from hypothesis import HealthCheck, Phase, strategies
from hypothesis.errors import Flaky, NoSuchExample, Unsatisfiable

from harness.case import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.measure.prompts import Vocabulary

MAX_BATCH: Final = 2


def token_batches(vocabulary: Vocabulary) -> strategies.SearchStrategy[Prompt]:
    """Give a strategy for batches of any length up to the maximum, biased to telling lengths.

    It shrinks to one row, few tokens, and token 0.
    """
    tokens = strategies.integers(0, vocabulary.size - 1)
    if vocabulary.special:
        tokens = tokens | strategies.sampled_from(vocabulary.special)
    lengths = strategies.integers(1, vocabulary.max_length)
    lengths = lengths | strategies.sampled_from(vocabulary.telling_lengths)

    @strategies.composite
    def batches(draw: strategies.DrawFn) -> Prompt:
        length = draw(lengths)
        size = draw(strategies.integers(1, MAX_BATCH))
        unique = length > vocabulary.repeats_to
        row = strategies.lists(tokens, min_size=length, max_size=length, unique=unique)
        rows = tuple(tuple(draw(row)) for _ in range(size))
        return Prompt.unpadded(rows, origin="hypothesis")

    return batches()


@functools.lru_cache(maxsize=8)
def draw_prompts(vocabulary: Vocabulary, *, count: int, seed: int) -> tuple[Prompt, ...]:
    """Draw prompts from the strategy; the same seed gives the same ones, drawn once for all cells.

    Hypothesis begins with the simplest of all, whatever the seed: one more is drawn, and that one
    is left out.
    """
    drawn: list[Prompt] = []
    if count == 0:
        return ()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count + 1,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(token_batches(vocabulary))
    def collect(prompt: Prompt) -> None:
        drawn.append(prompt)

    collect()
    return tuple(drawn[1 : count + 1])


def smallest_failing(
    known: Prompt,
    vocabulary: Vocabulary,
    *,
    fails: Callable[[Prompt], bool],
    seconds: float,
    seed: int = 0,
) -> Prompt:
    """Give the smallest prompt found that still fails, starting from one known to fail.

    Hypothesis searches and shrinks until the time is over; the best so far is kept. First the
    known prompt's own prefixes and rows are tried, so that a rare failure is not lost.
    """
    deadline = time.monotonic() + seconds
    best = known

    def still_fails(prompt: Prompt) -> bool:
        nonlocal best
        if time.monotonic() > deadline or not fails(prompt):
            return False
        if _size(prompt) < _size(best):
            best = prompt
        return True

    if not known.padded:
        _cut(known, still_fails)
        narrowed = replace(vocabulary, max_length=len(best.tokens[0]), padding=False)
        settings = hypothesis.settings(
            max_examples=200,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        # Where it finds nothing smaller in the time, the best so far stands. That the same prompt
        # fails no more once the time is over looks flaky to hypothesis.
        with contextlib.suppress(NoSuchExample, Unsatisfiable, Flaky):
            generator = random.Random(seed)
            hypothesis.find(
                token_batches(narrowed), still_fails, settings=settings, random=generator
            )
        best = Prompt.unpadded(best.tokens, origin="shrunk")
    return best


def _cut(known: Prompt, still_fails: Callable[[Prompt], bool]) -> None:
    """Try each row alone, then by bisection its shortest failing prefix."""
    for row in known.tokens:
        if not still_fails(Prompt.unpadded((row,), origin="shrunk")):
            continue
        low, high = 1, len(row)
        while low < high:
            middle = (low + high) // 2
            if still_fails(Prompt.unpadded((row[:middle],), origin="shrunk")):
                high = middle
            else:
                low = middle + 1
        return


def _size(prompt: Prompt) -> tuple[int, int, int]:
    lengths = len(prompt.tokens[0])
    return (len(prompt.tokens) * lengths, lengths, sum(map(sum, prompt.tokens)))
