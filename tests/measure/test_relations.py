import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.case import PROCESSING_FLAGS, Processing
from harness.measure.compare import compare
from harness.measure.relations import EQUAL, Relation, layer_site, relation_for, tightest_relation
from harness.models.architectures import automatic
from harness.models.families import FAMILIES

SEEDS = st.integers(0, 2**32)
OUTSIDE = ("embed", "pos_embed", "ln_final.out", "logits")
INSIDE = (
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
    "resid_mid",
    "ln2.out",
    "mlp.pre",
    "mlp.pre_linear",
    "mlp.post",
    "mlp_out",
    "resid_post",
)
WRITTEN = {"embed", "pos_embed", "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"}
FACTORED = {"attn.q", "attn.k", "attn.v", "attn.z", "attn.rot_q", "attn.rot_k"}

# What each flag changes, on its own, in a family with LayerNorms; every other site stays equal.
CHANGED = {
    "fold_ln": ("affine", {"ln1.out", "ln2.out", "ln_final.out"}),
    "center_writing_weights": ("shift", WRITTEN),
    "center_unembed": ("shift", {"logits"}),
    "fold_value_biases": ("offset", {"attn.v", "attn.z"}),
    "refactor_factored_attn_matrices": (None, FACTORED),
}


class Known:
    """What is folded: a gain of 2 and a bias of 3; a value bias of 5, of 7 once the norm is."""

    def affine_of(self, _):
        return torch.full((4,), 2.0), torch.full((4,), 3.0)

    def value_bias_of(self, _, *, ln_folded):
        return torch.full((2, 4), 7.0 if ln_folded else 5.0)


def relation_at(site, *flags, family="gpt2", port="bridge", softcapped=False):
    record = FAMILIES[family]
    return relation_for(
        site,
        port=port,
        processing=Processing(**dict.fromkeys(flags, True)),
        family=record,
        norms=record.norms,
        softcapped=softcapped,
        folded=Known(),
    )


def kinds_under(*flags, family="gpt2"):
    """Give the kind of relation of every site, by its name within a block."""
    sites = {site: site for site in OUTSIDE} | {site: f"blocks.1.{site}" for site in INSIDE}
    found = {name: relation_at(site, *flags, family=family) for name, site in sites.items()}
    return {name: relation and relation.kind for name, relation in found.items()}


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def all_of(tensor):
    return torch.ones(tensor.shape, dtype=torch.bool)


def distance(actual, expected, relation):
    return compare(actual, expected, relation=relation, counts=all_of(expected)).max_abs


def tightest(actual, expected, used=None):
    used = all_of(expected) if used is None else used
    return tightest_relation(actual, expected, used, within=1e-11)


def test_the_table_has_every_flag():
    assert set(CHANGED) == set(PROCESSING_FLAGS)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_without_processing_every_site_must_be_equal(family):
    assert set(kinds_under(family=family).values()) == {"equal"}


@pytest.mark.parametrize("flag", PROCESSING_FLAGS)
def test_a_flag_changes_the_sense_at_its_own_sites_and_at_no_other(flag):
    kind, sites = CHANGED[flag]
    changed = {site: found for site, found in kinds_under(flag).items() if found != "equal"}
    assert changed == dict.fromkeys(sites, kind)


def test_with_all_flags_each_site_has_the_sense_of_its_own_flag():
    found = kinds_under(*(flag for flag in PROCESSING_FLAGS if not flag.startswith("refactor")))
    wanted = dict.fromkeys(found, "equal")
    for kind, sites in CHANGED.values():
        wanted |= dict.fromkeys(sites, kind) if kind else {}
    assert found == wanted


def test_an_rms_norm_sees_a_mean_so_that_nothing_is_centred():
    assert set(kinds_under("center_writing_weights", family="llama").values()) == {"equal"}


def test_a_softcap_sees_a_constant_so_that_logits_are_not_centred():
    assert relation_at("logits", "center_unembed").kind == "shift"
    assert relation_at("logits", "center_unembed", softcapped=True) is EQUAL


def test_scores_are_up_to_a_shift_where_the_reference_takes_the_rows_maximum_off():
    assert relation_at("blocks.0.attn.attn_scores", family="gpt_oss").kind == "shift"
    assert relation_at("blocks.0.attn.attn_scores", family="llama") is EQUAL


def test_norms_that_the_family_does_not_name_are_not_folded():
    assert kinds_under("fold_ln", family="olmo2") == kinds_under(family="olmo2")


@pytest.mark.parametrize("flags", [(), ("fold_ln",)])
def test_the_value_bias_is_the_one_that_this_mode_folds(flags):
    relation = relation_at("blocks.0.attn.v", "fold_value_biases", *flags)
    assert relation.offset.unique().tolist() == [7.0 if flags else 5.0]


@given(SEEDS)
def test_affine_undoes_the_folding_of_gain_and_bias_and_excuses_no_other(seed):
    normalized, gain, bias = noise(seed, 2, 3, 4), noise(seed + 1, 4), noise(seed + 2, 4)
    relation = Relation(kind="affine", because="a test", scale=gain, offset=bias)
    unfolded = normalized * gain + bias
    assert distance(normalized, unfolded, relation) == 0.0
    assert distance(normalized, unfolded + 1e-9, relation) > 1e-10
    assert distance(normalized, normalized * (gain + 1e-6) + bias, relation) > 1e-9


@given(SEEDS)
def test_offset_undoes_the_folding_of_a_value_bias_and_excuses_no_other(seed):
    value, bias = noise(seed, 2, 3, 5, 4), noise(seed + 1, 5, 4)
    relation = Relation(kind="offset", because="a test", offset=bias)
    assert distance(value - bias, value, relation) < 1e-14
    assert distance(value - bias.roll(1, 0), value, relation) > 1e-6


@pytest.mark.parametrize("kind", ["equal", "shift", "affine", "offset"])
def test_the_reference_is_compared_with_its_oracle_unfolded(kind):
    plain = Relation(kind=kind, because="a test", offset=torch.ones(4)).for_the_reference()
    assert plain.kind == ("shift" if kind == "shift" else "equal")


PORT, OTHER = noise(1, 2, 7, 5), noise(2, 2, 7, 5)


@pytest.mark.parametrize(
    ("actual", "expected", "said"),
    [
        (PORT, PORT, "equal"),
        (PORT, PORT + noise(3, 2, 7, 1), "differs by a constant per position"),
        (PORT, PORT * 1.25, "differs by one factor: reference = 1.25 × port"),
        (PORT, PORT + noise(3, 5), "differs by one constant vector, the same at every position"),
        (PORT, PORT * noise(3, 5) + noise(4, 5), "differs by a gain and a bias per channel"),
        (PORT, OTHER, "no simple relation holds"),
    ],
)
def test_the_tightest_relation_is_the_planted_one(actual, expected, said):
    assert tightest(actual, expected) == said


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        pytest.param(PORT, PORT * 0, id="a factor of 0 fits a reference of zeros"),
        pytest.param(PORT[:1, :1], OTHER[:1, :1], id="a vector fits one position"),
        pytest.param(PORT[..., :1], OTHER[..., :1], id="a constant per position fits one channel"),
        pytest.param(PORT[:1, :1, :1], OTHER[:1, :1, :1], id="everything fits one number"),
        pytest.param(PORT[:, :2], OTHER[:, :2], id="gain and bias fit two tokens"),
        pytest.param(PORT, OTHER[:1, :1].expand(2, 7, 5), id="a gain of 0 fits a constant vector"),
    ],
)
def test_a_relation_that_leaves_nothing_to_compare_is_not_said_to_hold(actual, expected):
    assert tightest(actual, expected) == "no simple relation holds"


def test_entries_that_are_not_used_say_nothing():
    used = all_of(PORT)
    used[0, 3] = False
    spoilt = (PORT * 1.25).masked_fill(~used, 9.0)
    assert tightest(PORT, spoilt, used) == "differs by one factor: reference = 1.25 × port"


@pytest.mark.parametrize("expected", [PORT, PORT * 0], ids=["noise", "zeros"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_value_that_is_not_finite_holds_no_relation(value, expected):
    spoilt = expected.clone()
    spoilt[0, 0, 0] = value
    said = "no relation holds between values that are not finite"
    assert (tightest(spoilt, expected), tightest(expected, spoilt)) == (said, said)


def test_another_site_of_the_same_layer_is_found():
    assert layer_site("blocks.3.attn.z", "ln1.out") == "blocks.3.ln1.out"
    assert layer_site("decoder_blocks.0.attn.v", "ln1.out") == "decoder_blocks.0.ln1.out"
    assert layer_site("logits", "ln_final.out") == "ln_final.out"


def test_hooked_transformers_alibi_scores_differ_by_a_constant_per_query():
    site = "blocks.1.attn.attn_scores"
    assert relation_at(site, family="bloom", port="hooked").kind == "shift"
    assert relation_at(site, family="bloom", port="bridge") is EQUAL
    assert relation_at(site, family="gpt2", port="hooked") is EQUAL


@pytest.mark.parametrize(
    ("flag", "left_out"),
    [
        ("fold_ln", {"ln1.out", "ln2.out", "ln_final.out"}),
        ("fold_value_biases", {"attn.v", "attn.z"}),
    ],
)
def test_of_found_sites_what_a_port_may_fold_is_not_compared(flag, left_out):
    def found(site, **flags):
        return relation_for(
            site,
            port="bridge",
            processing=Processing(**flags),
            family=automatic("some", "AutoModelForCausalLM"),
            norms=(),
            softcapped=False,
            folded=Known(),
        )

    sites = [*OUTSIDE, *(f"blocks.0.{site}" for site in INSIDE)]
    assert all(found(site) is EQUAL for site in sites)
    asked = {site for site in sites if found(site, **{flag: True}) is None}
    assert {site.removeprefix("blocks.0.") for site in asked} == left_out
