"""Which expert a token goes to, compared apart: in low precision a near tie falls either way.

A flip is no fault of a port, and all that follows it differs by far more than rounding: for the
token itself, and by attention for every later one. Positions before the first flip of a row are
untouched, by causality, and stay judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from harness.models.sites import LOGITS, layer_of, within_block
from harness.models.text_config import has_experts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Bool, Int
    from torch import Tensor

    from harness.measure.references import Reference

ROUTER: Final = "mlp.router"
_CHOOSING_FIELDS: Final = (
    "num_experts_per_tok",
    "experts_per_token",
    "moe_top_k",
    "moe_topk",
    "moe_k",
    "top_k_experts",
)
_KEYS_CHOSEN_FIELD: Final = "index_topk"
_BEHIND_ROUTER: Final = frozenset(
    {"mlp.pre", "mlp.pre_linear", "mlp.post", "mlp_out", "resid_post"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """The first flipped position of each row, up to each layer; the row's length where none is."""

    first: Mapping[int, Int[Tensor, " batch"]]
    length: int
    number: int

    def untouched(self, site: str) -> Bool[Tensor, "batch pos"] | None:
        """Say which positions no flip has touched at the site; None where it touches none."""
        layer = layer_of(site)
        if layer is None:
            behind = site in (LOGITS, "ln_final.out")
            reached = [*self.first] if behind else []
        else:
            inside = within_block(site) in _BEHIND_ROUTER
            reached = [at for at in self.first if at < layer or (inside and at == layer)]
        if not reached:
            return None
        first = torch.stack([self.first[at] for at in reached]).amin(0)
        if bool((first == self.length).all()):
            return None
        return torch.arange(self.length, device=first.device) < first[:, None]


NO_FLIPS: Final = Flips(first={}, length=0, number=0)


def experts_chosen(config: Mapping[str, object]) -> int:
    """Give how many experts a token goes to, by whatever name the config has it; 0 for none."""
    found = next((config[name] for name in _CHOOSING_FIELDS if config.get(name)), 0)
    return int(str(found))


def chooses_unseen(reference: Reference) -> bool:
    """Say whether a model chooses experts or keys by numbers that no site of it shows.

    A choice that falls the other way is then not told from rounding.
    """
    if reference.runner.family.chooses_keys or reference.config.get(_KEYS_CHOSEN_FIELD):
        return True
    seen = any(within_block(site) == ROUTER for site in reference.runner.sites)
    return has_experts(reference.config) and not (seen and experts_chosen(reference.config))


def flips_between(
    sides: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    oracle: Mapping[str, Tensor],
    *,
    chosen: int,
    real: Bool[Tensor, "batch pos"],
) -> Flips:
    """Find where port or reference (`sides`) send a token to other experts than the oracle does.

    Only tokens that are `real` count: what a model computes at padding is nobody's promise, and
    under left padding a flip there would leave the whole row out.
    """
    routers = [site for site in oracle if within_block(site) == ROUTER]
    if not routers or not chosen:
        return NO_FLIPS
    first: dict[int, Tensor] = {}
    number, length = 0, oracle[routers[0]].shape[1]
    places = torch.arange(length)
    for site in routers:
        wanted = _choice(oracle[site], chosen)
        flipped = torch.zeros(wanted.shape[:2], dtype=torch.bool)
        for side in sides:
            if site in side:
                flipped |= (_choice(side[site], chosen) != wanted).any(-1).cpu()
        flipped &= real.cpu()
        number += int(flipped.sum())
        first[layer_of(site) or 0] = torch.where(flipped, places, length).amin(-1)
    return Flips(first=first, length=length, number=number)


def _choice(logits: Tensor, chosen: int) -> Tensor:
    return logits.topk(chosen, dim=-1).indices.sort(-1).values
