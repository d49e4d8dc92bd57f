"""How a forward pass is asked for, beside its tokens; and a `transformers` model's arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from harness.case import Prompt
    from harness.models.family import Family

# Takes a site's tensor in TransformerLens' layout, gives what stands there instead.
Edit = Callable[["Tensor"], "Tensor"]

# Takes a site's name and its tensor, in TransformerLens' layout.
Hand = Callable[[str, "Tensor"], None]

OUTPUTS: Final = ("attentions", "hidden_states")
"""What a `transformers` model can be asked to give beside its logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a forward pass is asked for. The default is what a careful user writes.

    `mask` and `positions` say whether the attention mask and position ids are passed; None leaves
    it to the port: a mask only where something is padded, and then, for `transformers`, positions
    that count real tokens. `cache` says whether keys and values are kept for later tokens.
    `outputs` are more outputs asked for, of OUTPUTS. `edits` gives, by site, what is written
    there. `gradients` keeps the graph behind the logits. `decoder` is what an encoder-decoder's
    decoder reads, where that is not the prompt itself. `hand` is given each site's tensor as it
    fires, in place of its being kept; it may not keep it either: what follows may write to it.
    """

    mask: bool | None = None
    positions: bool | None = None
    cache: bool | None = None
    outputs: tuple[str, ...] = ()
    edits: Mapping[str, Edit] = field(default_factory=dict)
    gradients: bool = False
    decoder: Prompt | None = None
    hand: Hand | None = None

    def taken(self, sites: Collection[str]) -> Taken:
        """Give what the tensors at the sites are put into as they fire."""
        return Taken(sites, self.hand)

    def output_arguments(self) -> dict[str, bool]:
        """Give the arguments by which `transformers` is asked for more outputs."""
        asked = {f"output_{name}": True for name in self.outputs}
        return asked if self.cache is None else {**asked, "use_cache": self.cache}


PLAIN: Final = Asking()


class Taken(dict[str, "Tensor | None"]):
    """The tensors at the sites that were asked for: copies, or None for what was handed over."""

    def __init__(self, sites: Collection[str], hand: Hand | None) -> None:
        """Start with none taken."""
        super().__init__()
        self._sites = frozenset(sites)
        self._hand = hand

    def take(self, site: str, tensor: Tensor) -> None:
        """Copy a site's tensor, or hand it over if it was asked for."""
        self.keep(site, tensor.detach().clone() if self._hand is None else tensor)

    def keep(self, site: str, tensor: Tensor) -> None:
        """Keep a tensor that nothing writes to any more, as it is; or hand it over likewise."""
        if self._hand is None:
            self[site] = tensor
        elif site in self._sites:
            self[site] = None
            self._hand(site, tensor.detach())

    def at(self, sites: Iterable[str]) -> dict[str, Tensor]:
        """Give what was taken at the sites, in their order; nothing for what was handed over."""
        found = {site: self[site] for site in sites if site in self}
        return {site: tensor for site, tensor in found.items() if tensor is not None}


def model_inputs(
    family: Family,
    config: Any,
    prompt: Prompt,
    device: torch.device,
    asking: Asking = PLAIN,
) -> dict[str, Tensor]:
    """Give a `transformers` model's arguments for a prompt.

    The mask is passed only where something is padded. Positions then count real tokens only,
    for families that take position ids; the others work them out from the mask themselves. An
    encoder-decoder's decoder reads the same tokens, shifted right behind the start token.
    """
    tokens = torch.tensor(prompt.tokens, device=device)
    inputs = {"input_ids": tokens}
    mask = torch.tensor(prompt.attention_mask, device=device)
    if prompt.padded if asking.mask is None else asking.mask:
        inputs["attention_mask"] = mask
    if family.takes_position_ids and (
        prompt.padded if asking.positions is None else asking.positions
    ):
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if getattr(config, "is_encoder_decoder", False):
        read = tokens
        if asking.decoder is not None:
            read = torch.tensor(asking.decoder.tokens, device=device)
        start = torch.full_like(tokens[:, :1], config.decoder_start_token_id)
        inputs["decoder_input_ids"] = torch.cat([start, read[:, :-1]], dim=1)
    return inputs


def chunk_inputs(
    inputs: Mapping[str, Tensor], chunks: Sequence[int], *, decoder: bool
) -> list[dict[str, Tensor]]:
    """Cut a forward's arguments into those of its chunks, of the lengths given, in order.

    The attention mask of a chunk covers all that came before it too. Of an encoder-decoder
    (`decoder`), the decoder's tokens are cut, and every chunk reads the same encoder.
    """
    cut, end = [], 0
    for length in chunks:
        start, end = end, end + length
        part = dict(inputs)
        if decoder:
            part["decoder_input_ids"] = inputs["decoder_input_ids"][:, start:end]
        else:
            part["input_ids"] = inputs["input_ids"][:, start:end]
            if "attention_mask" in inputs:
                part["attention_mask"] = inputs["attention_mask"][:, :end]
            if "position_ids" in inputs:
                part["position_ids"] = inputs["position_ids"][:, start:end]
        cut.append(part)
    return cut


def logits_of(output: Any) -> Tensor:
    """Give the logits [batch, pos, vocab] of a model's output (BERT calls them otherwise)."""
    logits = getattr(output, "logits", None)
    found: Tensor = output.prediction_logits if logits is None else logits
    return found


def keeper(site: str, taken: Taken, edit: Edit | None) -> Any:
    """Give a hook in TransformerLens' signature that keeps a site's tensor, and may replace it."""

    def keep(tensor: Tensor, hook: object) -> Tensor | None:  # noqa: ARG001 - its signature
        edited = None if edit is None else edit(tensor)
        taken.take(site, tensor if edited is None else edited)
        return edited

    return keep
