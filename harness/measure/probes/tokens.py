"""Tokens: a text becomes the ids that its checkpoint's tokenizer has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from harness.case import SYNTHETIC, Prompt
from harness.errors import Refused
from harness.measure.probes.model import Owed
from harness.models.texts import Reader, tokenizer_of
from harness.record import TEXT_ORIGIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from harness.measure.probes.model import Model
    from harness.models.ports import Runner

SITE: Final = "tokens"
_NOTHING: Final = -1
"""Stands where one row has an id and the other has none: no id is negative."""


def tokens(model: Model, prompt: Prompt) -> Iterator[Owed]:  # noqa: ARG001 - a probe's signature
    """Make ids of fixed texts: they come back as they were, and the port makes the same ones.

    With other ids every number of a model is another, and no fault of its own: so the ids are kept
    in the run, a prompt for each text as the port reads it without a word, and compared across
    versions by themselves. What is owed within one: ids that are decoded encode to themselves; a
    tokenizer of bytes loses no text; padding goes to the tokenizer's side, is masked, and leaves
    real ids alone; and a port's own `to_tokens` gives these ids, with BOS before them once, where
    it is asked for and the tokenizer has one.
    """
    reader = Reader(tokenizer_of(model.reference.checkpoint))
    texts = reader.texts
    if is_synthetic(model) and not reader.ids(texts["synthetic words"], whole=False):
        # Qwen2's class takes any tokenizer.json for its own byte pairs (transformers 5).
        message = "the family's own class of tokenizers cannot read a synthetic one"
        raise Refused(message)
    plain = {name: reader.ids(text, whole=False) for name, text in texts.items()}
    if model.is_reference_library:
        read = {name: reader.ids(text, whole=True) for name, text in texts.items()}
    else:
        read = {name: model.runner.to_tokens([texts[name]])[0] for name in plain if plain[name]}
    kept = (
        Prompt.unpadded((tuple(ids),), origin=f"{TEXT_ORIGIN}{name}")
        for name, ids in read.items()
        if ids
    )
    again = [reader.ids(reader.text(ids), whole=False) for ids in plain.values()]
    yield owed(
        "what is decoded encodes to the same ids", again, list(plain.values()), texts=tuple(kept)
    )
    if reader.is_lossless:
        back = [characters(reader.text(ids)) for ids in plain.values()]
        yield owed("every text comes back", back, [characters(text) for text in texts.values()])
    if reader.pad is not None:
        yield from padded_batch(reader, [text for text in texts.values() if text])
    if not model.is_reference_library:
        yield from by_the_port(model.runner, reader)


def padded_batch(reader: Reader, texts: Sequence[str]) -> Iterator[Owed]:
    """Pad texts to one length: each is what it is alone, beside masked pads on one side."""
    ids, mask = reader.batch(texts)
    alone = [reader.ids(text, whole=True) for text in texts]
    longest = max(map(len, alone))

    def beside_pads(row: list[int], pad: int) -> list[int]:
        pads = [pad] * (longest - len(row))
        return pads + row if reader.pads_left else row + pads

    kept = Prompt(
        tokens=tuple(map(tuple, ids)),
        attention_mask=tuple(map(tuple, mask)),
        origin=f"{TEXT_ORIGIN}a padded batch",
    )
    padded = [beside_pads(row, reader.pad or 0) for row in alone]
    yield owed("padding", ids, padded, texts=(kept,))
    shown = [beside_pads([1] * len(row), 0) for row in alone]
    yield owed("the mask of padding", mask, shown)


def by_the_port(runner: Runner, reader: Reader) -> Iterator[Owed]:
    """Ask a port of TransformerLens for the ids that it would feed to its model."""
    texts = [text for text in reader.texts.values() if reader.ids(text, whole=False)]
    plain = [reader.ids(text, whole=False) for text in texts]
    bare = [runner.to_tokens([text], bos=False)[0] for text in texts]
    yield owed("to_tokens without BOS", bare, plain)
    if reader.bos is not None:
        begun = [[reader.bos, *ids] for ids in plain]
        asked = [runner.to_tokens([text], bos=True)[0] for text in texts]
        yield owed("to_tokens with BOS", asked, begun)
        default = [runner.to_tokens([text])[0] for text in texts]
        wanted = begun if runner.begins_with_bos else plain
        yield owed("to_tokens without a word", default, wanted)


def is_synthetic(model: Model) -> bool:
    """Say whether the checkpoint's tokenizer is one that this project wrote."""
    return model.cell.case.checkpoint.startswith(SYNTHETIC)


def any_one(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Choose one prompt: texts are asked about once; in a replay they stand among the prompts."""
    return [prompt for prompt in prompts if not prompt.origin.startswith(TEXT_ORIGIN)][:1]


def characters(text: str) -> list[int]:
    """Give a text's code points, which can be compared as numbers."""
    return [ord(character) for character in text]


def owed(
    check: str,
    actual: Sequence[Sequence[int]],
    expected: Sequence[Sequence[int]],
    *,
    texts: tuple[Prompt, ...] = (),
) -> Owed:
    """Give rows of ids that must be the same, filled up to one shape."""
    longest = max(map(len, (*actual, *expected)), default=0)
    return Owed(
        check=check,
        actual={SITE: _filled(actual, longest)},
        expected={SITE: _filled(expected, longest)},
        bitwise=True,
        texts=texts,
    )


def _filled(rows: Sequence[Sequence[int]], length: int) -> Tensor:
    filled = [[*row, *[_NOTHING] * (length - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.float64)
