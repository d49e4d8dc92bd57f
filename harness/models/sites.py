"""Names of sites, and the order in which a forward pass reaches them.

A site is spelled as TransformerLens' users know it, without `hook_`: `embed`,
`blocks.3.resid_post`, `blocks.3.attn.q`, `ln_final.out`, `logits`. Layouts (TransformerLens'):
`[batch, pos, d_model]` on the residual stream, `[batch, pos, head, d_head]` for q, k, v, rot_q,
rot_k and z, `[batch, head, query, key]` for attn_scores and pattern, `[batch, pos, expert]` for
`mlp.router`, the logits by which a mixture chooses its experts. `mixer_out` is what a block adds
that mixes positions by no softmax: a state space, a recurrence, a linear attention.
"""

from __future__ import annotations

import functools
import re
from typing import Final

LOGITS: Final = "logits"
LN_FINAL: Final = "ln_final.out"
ROUTER: Final = "mlp.router"
ATTENTION_MATRICES: Final = ("attn_scores", "pattern")

# Within one block, in the order in which a pre-norm block computes them. Sites of a parallel
# block that are computed side by side keep this order too: it only has to be a topological one.
_WITHIN_BLOCK: Final = (
    "resid_pre",
    "ln1.out",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.rot_q",
    "attn.rot_k",
    "attn.attn_scores",
    "attn.pattern",
    "attn.z",
    "attn_out",
    "mixer_out",
    "resid_mid",
    "ln2.out",
    "cross_attn.q",
    "cross_attn.k",
    "cross_attn.v",
    "cross_attn.attn_scores",
    "cross_attn.pattern",
    "cross_attn.z",
    "cross_attn_out",
    "resid_mid_cross",
    "ln3.out",
    "mlp.router",
    "mlp.pre",
    "mlp.pre_linear",
    "mlp.post",
    "mlp_out",
    "resid_post",
)
# Where the norm stands behind the sum (BERT, OPT 350m), it comes later than above.
_POST_NORM: Final = {"ln1.out": "resid_mid", "ln2.out": "mlp_out"}
_POST_NORM_CROSSED: Final = {
    "ln1.out": "resid_mid",
    "ln2.out": "resid_mid_cross",
    "ln3.out": "mlp_out",
}
_STACKS: Final = ("encoder_blocks", "blocks", "decoder_blocks")
_BEFORE: Final = ("embed", "pos_embed", "embed_ln.out")
_AFTER_STACK: Final = {"encoder_ln_final.out": "encoder_blocks", "ln_final.out": "decoder_blocks"}
_BLOCK_SITE: Final = re.compile(r"(\w*blocks)\.(\d+)\.(.+)")


def at_layer(template: str, layer: int) -> str:
    """Fill the layer into a site template: `blocks.{i}.attn.q` -> `blocks.3.attn.q`."""
    return template.replace("{i}", str(layer))


@functools.cache
def layer_of(site: str) -> int | None:
    """Give the layer of a site, or None for one outside the blocks."""
    found = _BLOCK_SITE.fullmatch(site)
    return int(found[2]) if found else None


@functools.cache
def within_block(site: str) -> str:
    """Give the part of a block's site after the layer (`attn.q`), or the site itself."""
    found = _BLOCK_SITE.fullmatch(site)
    return found[3] if found else site


@functools.cache
def order(site: str, *, post_norm: bool = False) -> tuple[int, int, float]:
    """Give the sorting key that puts sites in the order of the forward pass.

    Raises:
        ValueError: the site is not one that this module knows.
    """
    if site in _BEFORE:
        return (0, _BEFORE.index(site), 0)
    if site == LOGITS:
        return (9, 0, 0)
    if site in _AFTER_STACK:
        return (2 * _STACKS.index(_AFTER_STACK[site]) + 3, 0, 0)
    found = _BLOCK_SITE.fullmatch(site)
    if not found or found[1] not in _STACKS or found[3] not in _WITHIN_BLOCK:
        message = f"unknown site {site!r}; known in a block: {', '.join(_WITHIN_BLOCK)}"
        raise ValueError(message)
    moved = _POST_NORM_CROSSED if found[1] == "decoder_blocks" else _POST_NORM
    behind = moved.get(found[3]) if post_norm else None
    place = _WITHIN_BLOCK.index(behind) + 0.5 if behind else _WITHIN_BLOCK.index(found[3])
    return (2 * _STACKS.index(found[1]) + 2, int(found[2]), place)


def is_attention_matrix(site: str) -> bool:
    """Say whether the site is laid out [batch, head, query, key]."""
    return site.rsplit(".", 1)[-1] in ATTENTION_MATRICES
