import random

import pytest

from harness.models.families import FAMILIES
from harness.models.sites import at_layer, is_attention_matrix, layer_of, order, within_block

# A pre-norm block in the order in which it computes.
FORWARD = (
    "embed",
    "pos_embed",
    "embed_ln.out",
    "blocks.0.resid_pre",
    "blocks.0.ln1.out",
    "blocks.0.attn.q",
    "blocks.0.attn.k",
    "blocks.0.attn.v",
    "blocks.0.attn.rot_q",
    "blocks.0.attn.attn_scores",
    "blocks.0.attn.pattern",
    "blocks.0.attn.z",
    "blocks.0.attn_out",
    "blocks.0.resid_mid",
    "blocks.0.ln2.out",
    "blocks.0.mlp.router",
    "blocks.0.mlp.pre",
    "blocks.0.mlp.post",
    "blocks.0.mlp_out",
    "blocks.0.resid_post",
    "blocks.1.resid_pre",
    "blocks.2.resid_pre",
    "blocks.10.resid_pre",
    "ln_final.out",
    "logits",
)
POST_NORM = ("resid_pre", "attn.z", "attn_out", "resid_mid", "ln1.out", "mlp.pre", "mlp_out")
ENCODER_DECODER = (
    "embed",
    "encoder_blocks.0.attn.q",
    "encoder_blocks.2.resid_post",
    "encoder_ln_final.out",
    "decoder_blocks.0.attn.z",
    "decoder_blocks.0.resid_mid",
    "decoder_blocks.0.ln2.out",
    "decoder_blocks.0.cross_attn.q",
    "decoder_blocks.0.cross_attn.pattern",
    "decoder_blocks.0.cross_attn_out",
    "decoder_blocks.0.resid_mid_cross",
    "decoder_blocks.0.ln3.out",
    "decoder_blocks.0.mlp.pre",
    "decoder_blocks.1.resid_pre",
    "ln_final.out",
    "logits",
)


def ordered(sites, *, post_norm=False):
    shuffled = random.Random(0).sample(sites, len(sites))
    return tuple(sorted(shuffled, key=lambda site: order(site, post_norm=post_norm)))


def sites_of(family):
    inside = {f"{s.prefix}.0.{site}" for s in FAMILIES[family].stacks for site in s.taps}
    return sorted({*FAMILIES[family].taps, *inside, "logits"})


@pytest.mark.parametrize("sites", [FORWARD, ENCODER_DECODER], ids=["decoder", "encoder-decoder"])
def test_sites_stand_in_the_order_of_the_forward_pass(sites):
    assert ordered(sites) == sites


def test_where_norms_stand_behind_the_sums_they_come_after_them():
    sites = tuple(f"blocks.0.{site}" for site in (*POST_NORM, "ln2.out", "resid_post"))
    assert ordered(sites, post_norm=True) == sites
    assert ordered(sites) != sites


@pytest.mark.parametrize("family", FAMILIES)
def test_every_site_of_a_family_has_a_place_of_its_own(family):
    sites = sites_of(family)
    for post_norm in (False, True):
        assert len({order(site, post_norm=post_norm) for site in sites}) == len(sites)


@pytest.mark.parametrize(
    "site", ["resid_pre", "blocks.0.attn.w", "towers.0.resid_pre", "blocks.x.resid_pre", ""]
)
def test_a_site_that_nobody_knows_is_refused(site):
    with pytest.raises(ValueError, match="unknown site"):
        order(site)


@pytest.mark.parametrize(
    ("site", "layer", "inside"),
    [
        ("embed", None, "embed"),
        ("logits", None, "logits"),
        ("ln_final.out", None, "ln_final.out"),
        ("blocks.3.attn.q", 3, "attn.q"),
        ("blocks.12.resid_post", 12, "resid_post"),
        ("decoder_blocks.1.cross_attn.z", 1, "cross_attn.z"),
    ],
)
def test_a_site_is_taken_apart_into_layer_and_place(site, layer, inside):
    assert (layer_of(site), within_block(site)) == (layer, inside)


def test_a_layer_is_filled_into_every_place_of_a_template():
    assert at_layer("model.layers.{i}.mlp", 3) == "model.layers.3.mlp"
    assert at_layer("a.{i}.b.{i}", 12) == "a.12.b.12"
    assert at_layer("model.norm", 3) == "model.norm"


@pytest.mark.parametrize(
    ("site", "is_matrix"),
    [
        ("blocks.0.attn.pattern", True),
        ("decoder_blocks.0.cross_attn.attn_scores", True),
        ("blocks.0.attn.z", False),
        ("logits", False),
    ],
)
def test_scores_and_patterns_are_laid_out_by_query_and_key(site, is_matrix):
    assert is_attention_matrix(site) == is_matrix
