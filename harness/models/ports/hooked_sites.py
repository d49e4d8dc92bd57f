"""Where `HookedTransformer`, `HookedEncoder` and `HookedEncoderDecoder` keep each site.

A place is a hook point, or a module where there is no hook point of that meaning: what
`ln1.hook_normalized` gives is after gain and bias in a LayerNorm up to 2.18, before them from
3.0 on and in every RMSNorm, so that norms are read at their own output.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.models.sites import LOGITS, order

if TYPE_CHECKING:
    from collections.abc import Mapping

_ATTENTION: Final = ("q", "k", "v", "attn_scores", "pattern", "z")
_MLP: Final = ("pre", "pre_linear", "post")
_BRANCHES: Final = (
    "resid_pre",
    "attn_out",
    "resid_mid",
    "cross_attn_out",
    "resid_mid_cross",
    "mlp_out",
    "resid_post",
)
_INSIDE: Final[Mapping[str, str]] = {
    **{site: f"hook_{site}" for site in _BRANCHES},
    **{f"attn.{site}": f"attn.hook_{site}" for site in (*_ATTENTION, "rot_q", "rot_k")},
    **{f"cross_attn.{site}": f"cross_attn.hook_{site}" for site in _ATTENTION},
    **{f"mlp.{site}": f"mlp.hook_{site}" for site in _MLP},
    **{f"{norm}.out": norm for norm in ("ln1", "ln2", "ln3")},
    # Its hook point has the weights of the experts after a softmax.
    "mlp.router": "mlp.W_gate",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """One of the three classes: its name, and the places of sites in it.

    `stacks` gives the module list of each stack of blocks by the prefix of its sites; `inside`
    the places in a block, `outside` the others. `mask` is the argument that takes the mask.
    """

    model: str
    stacks: Mapping[str, str]
    outside: Mapping[str, str]
    inside: Mapping[str, str]
    mask: str
    post_norm: bool = False


DECODER: Final = Places(
    model="HookedTransformer",
    stacks={"blocks": "blocks"},
    outside={
        "embed": "hook_embed",
        "pos_embed": "hook_pos_embed",
        "embed_ln.out": "embed.ln",
        "ln_final.out": "ln_final",
    },
    inside=_INSIDE,
    mask="attention_mask",
)
ENCODER: Final = Places(
    model="HookedEncoder",
    stacks={"blocks": "blocks"},
    outside={
        "embed": "embed.hook_embed",
        "pos_embed": "embed.hook_pos_embed",
        "embed_ln.out": "embed.ln",
        "ln_final.out": "mlm_head.ln",
    },
    # Its hook_resid_post is taken before the norm that closes the block: not what enters the next.
    inside={**_INSIDE, "resid_post": "hook_normalized_resid_post"},
    mask="one_zero_attention_mask",
    post_norm=True,
)
ENCODER_DECODER: Final = Places(
    model="HookedEncoderDecoder",
    stacks={"encoder_blocks": "encoder", "decoder_blocks": "decoder"},
    outside={
        "embed": "hook_embed",
        "encoder_ln_final.out": "encoder_final_ln",
        "ln_final.out": "decoder_final_ln",
    },
    inside=_INSIDE,
    mask="one_zero_attention_mask",
)


def places_of(family: str) -> Places:
    """Give the class that loads a family."""
    return {"bert": ENCODER, "t5": ENCODER_DECODER}.get(family, DECODER)


def paths_of(model: Any, places: Places) -> dict[str, str]:
    """Give the path of each site that a model has, in the order of the forward pass.

    The logits are what the model returns; their path is empty.
    """
    there = {name for name, _ in model.named_modules()}
    silent = _never_firing(model.cfg)
    found = {site: path for site, path in places.outside.items() if site not in silent}
    for prefix, stack in places.stacks.items():
        for layer in range(len(model.get_submodule(stack))):
            for inside, path in places.inside.items():
                found[f"{prefix}.{layer}.{inside}"] = f"{stack}.{layer}.{path}"
    present = {site: path for site, path in found.items() if path in there}
    key = functools.partial(order, post_norm=places.post_norm)
    return {**{site: present[site] for site in sorted(present, key=key)}, LOGITS: ""}


def _never_firing(cfg: Any) -> frozenset[str]:
    """Name sites whose hook point is there and never fires, or has another site's tensor."""
    silent = set()
    if cfg.positional_embedding_type != "standard":
        silent.add("pos_embed")
    if getattr(cfg, "post_embedding_ln", False):
        silent.add("embed")  # hook_embed is after the norm, which is `embed_ln.out`
    return frozenset(silent)
