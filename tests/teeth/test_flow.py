"""Where a fault must be named, if the cell does not compare its own site."""

import pytest

from harness.teeth.flow import first_reached

BLOCK = (
    *("resid_pre", "ln1.out", "attn.q", "attn.k", "attn.v", "attn.rot_q", "attn.rot_k"),
    *("attn.attn_scores", "attn.pattern", "attn.z", "attn_out", "resid_mid", "ln2.out"),
    *("mlp.pre", "mlp.pre_linear", "mlp.post", "mlp_out", "resid_post"),
)
KNOWN = ("embed", *(f"blocks.{i}.{name}" for i in (0, 1) for name in BLOCK), "logits")


def without(*names):
    return tuple(site for site in KNOWN if site not in {f"blocks.0.{name}" for name in names})


def test_a_fault_is_named_at_its_own_site_where_that_is_compared():
    assert first_reached("blocks.0.attn.q", KNOWN, known=KNOWN) == "blocks.0.attn.q"


@pytest.mark.parametrize(
    ("site", "lacking", "named"),
    [
        ("attn.q", ("attn.q",), "attn.rot_q"),
        ("attn.k", ("attn.k",), "attn.rot_k"),
        ("attn.k", ("attn.k", "attn.rot_k"), "attn.attn_scores"),
        ("attn.v", ("attn.v",), "attn.z"),
        ("attn.rot_q", ("attn.rot_q",), "attn.attn_scores"),
        ("mlp.pre", ("mlp.pre",), "mlp.post"),
        ("attn_out", ("attn_out",), "resid_mid"),
    ],
)
def test_else_at_the_next_one_that_it_reaches(site, lacking, named):
    found = first_reached(f"blocks.0.{site}", without(*lacking), known=KNOWN)
    assert found == f"blocks.0.{named}"


def test_in_a_parallel_block_the_mlp_does_not_read_the_attention():
    known = tuple(site for site in KNOWN if not site.endswith("resid_mid"))
    compared = tuple(site for site in known if site != "blocks.0.attn_out")
    assert first_reached("blocks.0.attn_out", compared, known=known) == "blocks.0.resid_post"


def test_a_site_that_the_reference_lacks_has_its_place_in_order():
    known = tuple(site for site in KNOWN if not site.endswith("mlp.post"))
    assert first_reached("blocks.0.mlp.post", known, known=known) == "blocks.0.mlp_out"


def test_what_reaches_nothing_that_is_compared_is_named_nowhere():
    assert first_reached("logits", ("embed",), known=KNOWN) is None
