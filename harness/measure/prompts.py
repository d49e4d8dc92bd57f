"""Token batches: a fixed bank, hypothesis strategies, and the smallest batch that still fails."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase, strategies
from hypothesis.errors import Flaky, NoSuchExample, Unsatisfiable

from harness.case import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WINDOW_FIELDS: Final = ("sliding_window", "window_size", "attention_window")
_LENGTH_FIELDS: Final = ("n_positions", "max_position_embeddings", "max_seq_len", "seq_length")
_SPECIAL_FIELDS: Final = ("bos_token_id", "eos_token_id", "pad_token_id")
MAX_BATCH: Final = 2
LONGEST: Final = 48
"""Longest prompt where a checkpoint allows more; synthetic windows and lengths lie below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a checkpoint's config says about prompts."""

    size: int
    max_length: int
    windows: tuple[int, ...]
    special: tuple[int, ...]
    padding: bool

    @classmethod
    def of(cls, config: dict[str, Any], *, padding: bool) -> Vocabulary:
        """Read vocabulary, length, windows and special tokens off a config.json."""
        lengths = [config[name] for name in _LENGTH_FIELDS if config.get(name)]
        windows = {config[name] for name in _WINDOW_FIELDS if config.get(name)}
        longest = min([*lengths, LONGEST])
        special = [config[name] for name in _SPECIAL_FIELDS if config.get(name) is not None]
        return cls(
            size=config["vocab_size"],
            max_length=longest,
            windows=tuple(sorted(window for window in windows if window < longest)),
            special=tuple(token for token in special if isinstance(token, int)),
            padding=padding,
        )

    @property
    def telling_lengths(self) -> tuple[int, ...]:
        """Lengths at which position faults show: 1, around each window, past it, the longest."""
        around = [
            length
            for window in self.windows
            for length in (window - 1, window, window + 1, 2 * window + 3)
        ]
        kept = {length for length in (1, *around, self.max_length) if length > 0}
        return tuple(sorted(length for length in kept if length <= self.max_length))


def bank(vocabulary: Vocabulary) -> tuple[Prompt, ...]:
    """Give the fixed prompts: lengths that tell, repeats, special tokens, padding on each side."""
    return tuple(_bank(vocabulary))


def _bank(vocabulary: Vocabulary) -> Iterator[Prompt]:
    def spread(row: int, length: int) -> tuple[int, ...]:
        # A fixed walk through the vocabulary with a stride coprime to nearly every size.
        return tuple((17 + 31 * row + 7919 * i) % vocabulary.size for i in range(length))

    def named(origin: str, *rows: tuple[int, ...]) -> Prompt:
        return Prompt.unpadded(rows, origin=f"bank:{origin}")

    several = min(7, vocabulary.max_length)
    yield named("one_token", spread(0, 1))
    yield named("batch", spread(1, several), spread(2, several))
    for window in vocabulary.windows:
        for name, length in (("window+1", window + 1), ("past_window", 2 * window + 3)):
            yield named(name, spread(3, min(length, vocabulary.max_length)))
    yield named("longest", spread(4, vocabulary.max_length))
    yield named("repeats", (spread(5, 1) * several), (spread(6, 2) * several)[:several])
    if vocabulary.special:
        fill = (*vocabulary.special, *spread(7, several))
        yield named("special_tokens", fill[:several], fill[several - 1 :: -1])
    if vocabulary.padding:
        pad = vocabulary.special[-1] if vocabulary.special else 0
        for side in ("left", "right"):
            yield _padded(side, spread(8, several), spread(9, several - 3), pad=pad)


def _padded(side: str, full: tuple[int, ...], short: tuple[int, ...], *, pad: int) -> Prompt:
    gap = len(full) - len(short)
    pads, hidden, shown = (pad,) * gap, (0,) * gap, (1,) * len(short)
    return Prompt(
        tokens=(full, pads + short if side == "left" else short + pads),
        attention_mask=(
            (1,) * len(full),
            hidden + shown if side == "left" else shown + hidden,
        ),
        origin=f"bank:{side}_padding",
    )


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
        row = strategies.lists(tokens, min_size=length, max_size=length)
        rows = tuple(tuple(draw(row)) for _ in range(size))
        return Prompt.unpadded(rows, origin="hypothesis")

    return batches()


def draw_prompts(vocabulary: Vocabulary, *, count: int, seed: int) -> tuple[Prompt, ...]:
    """Draw prompts from the strategy; the same seed gives the same ones.

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
        narrowed = Vocabulary(
            size=vocabulary.size,
            max_length=len(best.tokens[0]),
            windows=vocabulary.windows,
            special=vocabulary.special,
            padding=False,
        )
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
