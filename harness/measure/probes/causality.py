"""Causality: what comes later changes nothing before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.case import Prompt
from harness.errors import Refused
from harness.measure.probes.model import Owed
from harness.models.ports.asking import PLAIN, Asking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.measure.probes.model import Model


def causality(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Change the last tokens: every activation before them stays, since nothing reads ahead.

    A mask can be lost on one path alone: so it is asked without an attention mask, with one of
    ones, and with attentions asked for. Of an encoder-decoder the decoder owes it.
    """
    of_decoder = model.is_encoder_decoder
    if not model.family.causal and not of_decoder:
        message = f"{model.family.name} reads both ways, and owes no causality"
        raise Refused(message)
    first = len(prompt.tokens[0]) * 2 // 3
    changed = with_other_tokens(prompt, first, size=model.vocabulary.size)
    before = (torch.arange(len(prompt.tokens[0])) < first).expand(len(prompt.tokens), -1)
    for check, asking in ways(model).items():
        if of_decoder:
            read = Asking(mask=asking.mask, outputs=asking.outputs, decoder=changed)
            actual, expected = model.run(prompt, read), model.run(prompt, asking)
            actual, expected = model.decoder_only(actual), model.decoder_only(expected)
        else:
            expected = model.plain(prompt) if asking == PLAIN else model.run(prompt, asking)
            actual = model.run(changed, asking)
        yield Owed(check=check, actual=actual, expected=expected, counts=before)


def ways(model: Model) -> dict[str, Asking]:
    """Give the ways of asking that take different paths through attention, by their names."""
    found = {"no mask": Asking(), "mask of ones": Asking(mask=True)}
    if model.is_reference_library:
        found["attentions asked for"] = Asking(outputs=("attentions",))
    return found


def with_other_tokens(prompt: Prompt, start: int, *, size: int) -> Prompt:
    """Give the prompt with every token from a position on changed, within the vocabulary."""
    tokens = tuple(
        (*row[:start], *((token + 1 + place % 3) % size for place, token in enumerate(row[start:])))
        for row in prompt.tokens
    )
    return Prompt.unpadded(tokens, origin=prompt.origin)
