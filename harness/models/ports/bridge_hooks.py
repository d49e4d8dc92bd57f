"""By which of its hooks the bridge gives each site."""

from __future__ import annotations

from typing import Any, Final

# The legacy hook names, which the bridge keeps as aliases: what users ask for.
_HOOKS: Final = {
    "embed": "embed.hook_out",
    "pos_embed": "pos_embed.hook_out",
    "embed_ln.out": "embed_ln.hook_out",
    "ln_final.out": "ln_final.hook_out",
    "encoder_ln_final.out": "encoder_ln_final.hook_out",
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "ln1.out": "ln1.hook_out",
    "ln2.out": "ln2.hook_out",
    "ln3.out": "ln3.hook_out",
    "attn.q": "attn.hook_q",
    "attn.k": "attn.hook_k",
    "attn.v": "attn.hook_v",
    "attn.z": "attn.hook_z",
    "attn.rot_q": "attn.hook_rot_q",
    "attn.rot_k": "attn.hook_rot_k",
    "attn.attn_scores": "attn.hook_attn_scores",
    "attn.pattern": "attn.hook_pattern",
    "mlp.router": "mlp.gate.hook_out",
    "mlp.pre": "mlp.hook_pre",
    "mlp.pre_linear": "mlp.hook_pre_linear",
    "mlp.post": "mlp.hook_post",
    "cross_attn.q": "cross_attn.hook_q",
    "cross_attn.k": "cross_attn.hook_k",
    "cross_attn.v": "cross_attn.hook_v",
    "cross_attn.z": "cross_attn.hook_z",
    "cross_attn.attn_scores": "cross_attn.hook_attn_scores",
    "cross_attn.pattern": "cross_attn.hook_pattern",
    "cross_attn_out": "hook_cross_attn_out",
    # The bridge calls it otherwise than HookedEncoderDecoder, which says hook_resid_mid_cross.
    "resid_mid_cross": "hook_resid_mid2",
}

# What it calls the same in the decoder of an encoder-decoder.
_DECODER_HOOKS: Final = {
    "ln_final.out": "decoder_ln_final.hook_out",
    "attn.q": "self_attn.hook_q",
    "attn.k": "self_attn.hook_k",
    "attn.v": "self_attn.hook_v",
    "attn.z": "self_attn.hook_z",
    "attn.attn_scores": "self_attn.hook_attn_scores",
    "attn.pattern": "self_attn.hook_pattern",
}


def hook_name(bridge: Any, site: str) -> str | None:
    """Give the bridge's name of the site, or None where it has no such hook."""
    stack, blocks, rest = site.partition("blocks.")
    layer, _, inside = rest.partition(".")
    if blocks:
        hooks = {**_HOOKS, **_DECODER_HOOKS} if stack == "decoder_" else _HOOKS
        names = [f"{stack}blocks.{layer}.{hooks[inside]}"] if inside in hooks else []
    else:
        names = [hooks[site] for hooks in (_HOOKS, _DECODER_HOOKS) if site in hooks]
    return next((name for name in names if _has_hook(bridge, name)), None)


def _has_hook(bridge: Any, hook: str) -> bool:
    return bridge.get_hook_point(hook) is not None
