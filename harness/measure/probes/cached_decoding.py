"""Cached decoding: token by token with a cache, the numbers of a full forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from harness.case import EXACT, Prompt
from harness.errors import Refused
from harness.measure.probes.model import Owed
from harness.measure.relations import Relation
from harness.models.sites import is_attention_matrix, within_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from harness.measure.probes.model import Activations, Model

_PREFILL: Final = 8
_SINGLE: Final = 4
_CHUNKS: Final = range(3, 48, 4)
_PAST_WINDOWS: Final = 3

FIRED: Final = "hooks fire at every step"

# An encoder's keys and values are made once, with the first chunk, and kept in the cache.
_MADE_ONCE: Final = ("cross_attn.k", "cross_attn.v")
_UP_TO_SHIFT: Final = Relation(kind="shift", because="ALiBi may count back from the last key")


def cached_decoding(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Prefill, then go on by single tokens, and by chunks: each step's rows are the full pass's.

    The single tokens go past every sliding window, where a cache that forgets too much, too little
    or the wrong end shows. The cache is the one that the model makes itself, and beside it nothing
    is handed in that a full pass is not given. Scores may move by a constant per query, which the
    softmax takes out: a step may count ALiBi from another end.
    """
    if not model.family.causal and not model.is_encoder_decoder:
        message = f"{model.family.name} reads both ways, and cannot be continued from a cache"
        raise Refused(message)
    for check, chunks in ways_of_cutting(model, length=len(prompt.tokens[0])).items():
        cut = Prompt.unpadded(
            tuple(row[: sum(chunks)] for row in prompt.tokens), origin=prompt.origin
        )
        full = model.plain(cut)
        sites = [site for site in full if is_held(model, site)]
        parts = model.decode(cut, chunks)
        joined: Activations = {}
        expected: Activations = {}
        lost: Activations = {}
        for site in sites:
            pieces = [part[site] for part in parts if site in part]
            if len(pieces) == len(parts):
                joined[site], expected[site] = brought_together(pieces, full[site], chunks, site)
            elif within_block(site) not in _MADE_ONCE:
                lost[site] = torch.tensor([len(pieces) / len(parts)])
        if lost:
            ones = {site: torch.ones(1) for site in lost}
            yield Owed(check=FIRED, actual=lost, expected=ones, bitwise=True)
        yield Owed(
            check=check,
            actual=joined,
            expected=expected,
            relations={site: _UP_TO_SHIFT for site in joined if site.endswith("attn_scores")},
        )


def is_held(model: Model, site: str) -> bool:
    """Say whether a site is held against the full pass: none of an encoder's is.

    Nor are scores where there is rounding: a step may round another offset by ALiBi into them,
    which is many times larger than they are. The pattern, and exact mode, judge them.
    """
    rounded_offset = site.endswith("attn_scores") and model.cell.dtype != EXACT
    return not model.is_of_encoder(site) and not rounded_offset


def ways_of_cutting(model: Model, *, length: int) -> dict[str, list[int]]:
    """Give the lengths of the chunks that a prompt is cut into, by the name of the check.

    The single tokens end where they are past the windows, well before a long prompt does. Chunks
    grow, from one that is shorter than a window to one that is longer, up to the prompt's end.
    """
    first = min(_PREFILL, length // 2)
    past_windows = max(model.vocabulary.windows, default=0) + _PAST_WINDOWS - first
    single = min(max(_SINGLE, past_windows), length - first)
    chunks: list[int] = []
    for size in _CHUNKS:
        chunks += [min(size, length - sum(chunks))] if sum(chunks) < length else []
    return {
        "prefill and single tokens": [first, *[1] * single],
        "chunks": chunks,
    }


def brought_together(
    pieces: Sequence[Tensor], full: Tensor, chunks: Sequence[int], site: str
) -> tuple[Tensor, Tensor]:
    """Join the chunks' tensors, and what the full pass has in their places, in one shape.

    Rotated keys may be those of the whole cache: then all that it holds are compared.
    """
    if is_attention_matrix(site):
        return matrices_together(pieces, full, site)
    joined, wanted, end = [], [], 0
    for piece, length in zip(pieces, chunks, strict=True):
        end += length
        held = piece[:, :end]
        joined.append(held)
        wanted.append(full[:, end - held.shape[1] : end])
    return torch.cat(joined, 1), torch.cat(wanted, 1)


def matrices_together(pieces: Sequence[Tensor], full: Tensor, site: str) -> tuple[Tensor, Tensor]:
    """Join scores or patterns [batch, head, query, key], of which a chunk has fewer keys.

    They are the last ones before the chunk's end, in a cache of a fixed size the first ones. Of a
    key that the cache forgot the pattern's weight is 0, and there is no score to be compared.
    """
    if within_block(site).startswith("cross_attn"):
        return torch.cat(list(pieces), 2), full
    filled, wanted, end = [], [], 0
    for piece in pieces:
        start, end = end, end + piece.shape[2]
        held = piece[..., :end]
        rows = full[:, :, start:end].clone()
        whole = torch.zeros_like(rows)
        if site.endswith("attn_scores"):
            kept = torch.zeros(rows.shape[-1], dtype=torch.bool, device=rows.device)
            kept[end - held.shape[-1] : end] = True
            whole, rows = whole - torch.inf, rows.masked_fill(~kept, -torch.inf)
        whole[..., end - held.shape[-1] : end] = held
        filled.append(whole)
        wanted.append(rows)
    return torch.cat(filled, 2), torch.cat(wanted, 2)
