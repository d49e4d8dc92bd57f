"""What a checkpoint says about prompts, and the bank of fixed ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.case import Prompt
from harness.errors import CheckpointError
from harness.models.text_config import text_config, vocabulary_size

if TYPE_CHECKING:
    from collections.abc import Iterator

_WINDOW_FIELDS: Final = (
    "sliding_window",
    "window_size",
    "attention_window",
    "keep_window_size",
)
_LENGTH_FIELDS: Final = (
    "n_positions",
    "max_position_embeddings",
    "max_seq_len",
    "max_target_positions",
    "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
    "seq_length",
)
_KEPT_KEYS_FIELD: Final = "keep_window_size"
_SPECIAL_FIELDS: Final = ("bos_token_id", "eos_token_id", "pad_token_id")
LONGEST: Final = 48
"""Longest prompt where a checkpoint allows more; synthetic windows and lengths lie below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a checkpoint's config says about prompts.

    `repeats_to`: the longest row that may hold a token twice, where attention chooses keys by what
    they hold. Equal tokens tie, and which of them it keeps is rounding's choice
    (docs/findings/doge-ties-among-repeated-tokens.md).
    """

    size: int
    max_length: int
    windows: tuple[int, ...]
    special: tuple[int, ...]
    padding: bool
    repeats_to: int = LONGEST

    @classmethod
    def of(cls, config: dict[str, Any], *, padding: bool) -> Vocabulary:
        """Read vocabulary, length, windows and special tokens off a config.json.

        Raises:
            CheckpointError: it states no number of tokens.
        """
        size = vocabulary_size(config)
        if not size:
            message = (
                "config.json states no number of tokens; next: see harness/models/text_config.py"
            )
            raise CheckpointError(message)
        config = text_config(config)
        lengths = [config[name] for name in _LENGTH_FIELDS if config.get(name)]
        named = (config[name] for name in _WINDOW_FIELDS if config.get(name))
        windows = {
            each for found in named for each in (found if isinstance(found, list) else [found])
        }
        longest = min([*lengths, LONGEST])
        repeats_to = min(config.get(_KEPT_KEYS_FIELD) or LONGEST, LONGEST)
        if repeats_to < longest:
            longest = min(longest, size)
        special = [config[name] for name in _SPECIAL_FIELDS if config.get(name) is not None]
        return cls(
            size=size,
            max_length=longest,
            windows=tuple(sorted(window for window in windows if window < longest)),
            special=tuple(token for token in special if isinstance(token, int)),
            padding=padding,
            repeats_to=repeats_to,
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
    repeated = min(several, vocabulary.repeats_to)
    yield named("repeats", (spread(5, 1) * repeated), (spread(6, 2) * repeated)[:repeated])
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
