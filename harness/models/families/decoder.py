"""The shape that Llama gave to most decoders: one constructor, named differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.models.family import Config, Family, Stack, Tap
from harness.models.heads import Head
from harness.models.layouts import block, gated_mlp, separate_qkv

if TYPE_CHECKING:
    from collections.abc import Mapping

LAYER = "model.layers.{i}"
ATTENTION = f"{LAYER}.self_attn"
MLP = f"{LAYER}.mlp"
EMBED = Tap(module="model.embed_tokens")
SCALED_EMBED = Tap(module="model.layers.0", side="in")
"""Where the embedding is scaled: in transformers 5 by its module, in transformers 4 behind it."""

NORM_AND_EMBEDDING = Head()
"""How most logits are made: the final norm, and the output embedding behind it."""


def llama_like(
    name: str,
    *,
    config: Config,
    variants: Mapping[str, Config],
    embed: Tap = EMBED,
    taps: Mapping[str, Tap] | None = None,
    mlp: Mapping[str, Tap] | None = None,
    ln2: str = "post_attention_layernorm",
    without: tuple[str, ...] = (),
    norm_offset: bool = False,
    layer_norm: bool = False,
    foldable: bool = True,
    scores_shifted: bool = False,
    unexercised: Mapping[str, str] | None = None,
    head: Head = NORM_AND_EMBEDDING,
    sinks: bool = False,
    chooses_keys: bool = False,
    residual_gains: Mapping[str, str] | None = None,
) -> Family:
    """Give the record of a family with Llama's module tree.

    Args:
        name: The family's name.
        config: The default variant's config.json.
        variants: Changes to it, by the variant's name.
        embed: Where the embedding is read.
        taps: Sites of a block that are read elsewhere than in Llama.
        mlp: The sites inside the MLP, where it is not a gated one.
        ln2: The norm before the MLP.
        without: Sites of a block that the family lacks.
        norm_offset: The norm multiplies by 1 + weight.
        layer_norm: The norms are LayerNorms, not RMSNorms.
        foldable: The norms stand before attention and MLP and have gains to fold; else none is
            folded, the final one neither.
        scores_shifted: Attention subtracts each row's maximum from the scores.
        sinks: A part of each row of the pattern goes to a sink beside the keys.
        chooses_keys: Attention leaves keys out by what they hold.
        residual_gains: The parameters that multiply the stream beside a branch.
        unexercised: Config fields that no variant sets away from their default, with the reason.
        head: How logits come from the last hidden state.
    """
    return Family(
        name=name,
        config=config,
        variants=variants,
        rotary=True,
        norm_offset=norm_offset,
        layer_norm=layer_norm,
        scores_shifted=scores_shifted,
        sinks=sinks,
        chooses_keys=chooses_keys,
        residual_gains=residual_gains or {},
        unexercised=unexercised or {},
        head=head,
        taps={
            "embed": embed,
            "ln_final.out": Tap(module="model.norm"),
        },
        stacks=(
            Stack(
                prefix="blocks",
                n_layers=lambda found: found.num_hidden_layers,
                attention={"attn": ATTENTION},
                taps={
                    site: tap
                    for site, tap in {
                        **block(LAYER),
                        "ln1.out": Tap(module=f"{LAYER}.input_layernorm"),
                        **separate_qkv(ATTENTION),
                        "attn_out": Tap(module=ATTENTION),
                        "resid_mid": Tap(module=f"{LAYER}.{ln2}", side="in"),
                        "ln2.out": Tap(module=f"{LAYER}.{ln2}"),
                        **(gated_mlp(MLP) if mlp is None else mlp),
                        "mlp_out": Tap(module=MLP),
                        **(taps or {}),
                    }.items()
                    if site not in without
                },
            ),
        ),
        norms={
            site: module
            for site, module in {
                "ln1.out": f"{LAYER}.input_layernorm",
                "ln2.out": f"{LAYER}.{ln2}",
                "ln_final.out": "model.norm",
            }.items()
            if foldable and site not in without
        },
    )
