"""Padding: what is masked out is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from harness.case import Prompt
from harness.measure.probes.model import Owed
from harness.measure.relations import Relation
from harness.models.ports.asking import Asking
from harness.models.sites import is_attention_matrix, within_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from harness.measure.probes.model import Model

_BY: Final = 3
# What a rotary embedding turns depends on where it counts from; the scores do not.
_TURNED: Final = ("attn.rot_q", "attn.rot_k")
_UP_TO_SHIFT: Final = Relation(kind="shift", because="ALiBi may count from anywhere")


def padding(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Pad on the left or right and mask it out: what is real stays as it was.

    With position ids that count real tokens, and without any, as most people call a model: then
    the model must count them itself, or need no absolute position. Rotated queries and keys may
    count from anywhere then; scores may move by a constant per query, as ALiBi's do, which the
    softmax takes out.
    """
    length = min(len(prompt.tokens[0]), model.vocabulary.max_length - _BY)
    short = Prompt.unpadded(tuple(row[:length] for row in prompt.tokens), origin=prompt.origin)
    expected = model.plain(short)
    for side in SIDES:
        start = _BY if side == "left" else 0
        for given in (True, False) if model.takes_positions else (False,):
            asking = Asking(mask=True, positions=given, decoder=short)
            taken = model.run(padded(short, side=side, by=_BY, pad=model.pad), asking)
            actual = {
                site: real_part(
                    tensor, site, start, start + length, in_decoder=model.is_of_decoder(site)
                )
                for site, tensor in taken.items()
            }
            left_out = _TURNED if side == "left" and not given else ()
            sites = [site for site in expected if within_block(site) not in left_out]
            yield Owed(
                check=f"{side}, positions {'given' if given else 'not given'}",
                actual={site: actual[site] for site in sites},
                expected={site: expected[site] for site in sites},
                relations={site: _UP_TO_SHIFT for site in sites if site.endswith("attn_scores")},
            )


SIDES: Final[tuple[Literal["left", "right"], ...]] = ("left", "right")


def padded(prompt: Prompt, *, side: Literal["left", "right"], by: int, pad: int) -> Prompt:
    """Give the prompt with so many masked pad tokens on one side of every row."""
    pads, hidden = (pad,) * by, (0,) * by
    shown = (1,) * len(prompt.tokens[0])
    left = side == "left"
    return Prompt(
        tokens=tuple(pads + row if left else row + pads for row in prompt.tokens),
        attention_mask=tuple(hidden + shown if left else shown + hidden for _ in prompt.tokens),
        origin=prompt.origin,
    )


def real_part(tensor: Tensor, site: str, start: int, end: int, *, in_decoder: bool) -> Tensor:
    """Cut a site's tensor of a padded prompt down to what is real.

    A decoder reads the prompt without padding; the keys and values of its cross-attention are
    the encoder's.
    """
    crosses = within_block(site).startswith("cross_attn.")
    if is_attention_matrix(site):
        if not in_decoder:
            return tensor[:, :, start:end, start:end]
        return tensor[..., start:end] if crosses else tensor
    keys = crosses and within_block(site) in {"cross_attn.k", "cross_attn.v"}
    return tensor if in_decoder and not keys else tensor[:, start:end]
