"""Which site a fault must be named at, where the cell does not compare its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.models.sites import layer_of, order, within_block

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a site of an attention or a gated MLP does not reach, though it comes later in order.
_APART: Final = {
    "q": ("k", "v", "rot_k"),
    "k": ("v", "rot_q"),
    "v": ("rot_q", "rot_k", "attn_scores", "pattern"),
    "rot_q": ("rot_k",),
    "router": ("pre", "pre_linear", "post"),
    "pre": ("pre_linear",),
}
_ATTENTION: Final = ("attn.", "attn_out")
_MLP: Final = ("ln2.out", "mlp.", "mlp_out")


def reaches(site: str, later: str, *, parallel: bool) -> bool:
    """Say whether what stands at a site has a part in one that comes later in forward order.

    In a `parallel` block the MLP does not read what the attention gives.
    """
    if _block(site) != _block(later):
        return True
    here, there = within_block(site), within_block(later)
    if parallel and here.startswith(_ATTENTION) and there.startswith(_MLP):
        return False
    branch, _, name = here.rpartition(".")
    other, _, later_name = there.rpartition(".")
    return branch != other or later_name not in _APART.get(name, ())


def first_reached(site: str, compared: Sequence[str], *, known: Sequence[str]) -> str | None:
    """Give the first compared site that a fault at a site reaches; None if there is none.

    Args:
        site: Where the fault stands; the reference need not have it.
        compared: The sites that a cell compares, in forward order.
        known: All sites of the reference, in forward order.
    """
    if site in compared:
        return site
    parallel = f"{_block(site)}resid_mid" not in known
    if site in known:
        behind = set(known[known.index(site) :])
    else:
        behind = {other for other in known if order(other) >= order(site)}
    return next(
        (
            later
            for later in compared
            if later in behind and (later == site or reaches(site, later, parallel=parallel))
        ),
        None,
    )


def _block(site: str) -> str:
    return site.removesuffix(within_block(site)) if layer_of(site) is not None else ""
