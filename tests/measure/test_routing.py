import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.measure.routing import NO_FLIPS, experts_chosen, flips_between

BATCH, LENGTH, EXPERTS, CHOSEN, LAYERS = 2, 7, 5, 2, 3
HALF, WHOLE = 1, 2  # at the layer of a flip: before the router, and behind it
OF_A_BLOCK = {
    "resid_pre": HALF,
    "attn_out": HALF,
    "ln2.out": HALF,
    "mlp.router": HALF,
    "mlp.pre": WHOLE,
    "mlp.pre_linear": WHOLE,
    "mlp.post": WHOLE,
    "mlp_out": WHOLE,
    "resid_post": WHOLE,
}


def routers(*, seed=0):
    """Give router logits of three layers, [batch, pos, expert], no two near each other."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(LAYERS, BATCH, LENGTH, EXPERTS, generator=generator).argsort(-1)
    return {f"blocks.{layer}.mlp.router": order[layer].double() for layer in range(LAYERS)}


def with_flip(logits, *, layer, row, position):
    """Give the best token's place to the worst expert."""
    changed = {site: values.clone() for site, values in logits.items()}
    here = changed[f"blocks.{layer}.mlp.router"][row, position]
    here[here.argmin()] = 99.0
    return changed


def all_real(tensors):
    return torch.ones(next(iter(tensors.values())).shape[:2], dtype=torch.bool)


def flips_of(port, *, oracle=None, reference=None, real=None):
    oracle = routers() if oracle is None else oracle
    real = all_real(oracle) if real is None else real
    return flips_between((port, reference or oracle), oracle, chosen=CHOSEN, real=real)


def touched(flips, site):
    """Give the touched positions, as (row, position)."""
    untouched = flips.untouched(site)
    return set() if untouched is None else {tuple(at) for at in (~untouched).nonzero().tolist()}


def from_there_on(row, position):
    return {(row, later) for later in range(position, LENGTH)}


PLACES = st.tuples(
    st.integers(0, LAYERS - 1), st.integers(0, BATCH - 1), st.integers(0, LENGTH - 1)
)


@pytest.mark.parametrize("site", ["embed", "blocks.2.resid_post", "ln_final.out", "logits"])
def test_without_a_flip_every_position_is_judged(site):
    flips = flips_of(routers())
    assert flips.number == 0
    assert flips.untouched(site) is None


@given(PLACES)
def test_a_flip_touches_its_row_from_its_position_on_at_every_site_behind_it(place):
    layer, row, position = place
    flips = flips_of(with_flip(routers(), layer=layer, row=row, position=position))
    assert flips.number == 1
    for at in range(LAYERS):
        for inside, reach in OF_A_BLOCK.items():
            behind = at > layer or (at == layer and reach == WHOLE)
            wanted = from_there_on(row, position) if behind else set()
            assert touched(flips, f"blocks.{at}.{inside}") == wanted


@given(PLACES)
def test_a_flip_touches_what_follows_the_blocks_and_nothing_before_them(place):
    layer, row, position = place
    flips = flips_of(with_flip(routers(), layer=layer, row=row, position=position))
    for site in ("ln_final.out", "logits"):
        assert touched(flips, site) == from_there_on(row, position)
    for site in ("embed", "pos_embed", "embed_ln.out"):
        assert flips.untouched(site) is None


@given(PLACES, PLACES)
def test_of_two_flips_each_site_sees_those_that_lie_before_it(one, other):
    port = routers()
    for layer, row, position in (one, other):
        port = with_flip(port, layer=layer, row=row, position=position)
    flips = flips_of(port)
    before = [place for place in (one, other) if place[0] < LAYERS - 1]
    wanted = set().union(*(from_there_on(row, position) for _, row, position in before))
    assert touched(flips, f"blocks.{LAYERS - 1}.attn.q") == wanted
    assert touched(flips, "logits") == from_there_on(*one[1:]) | from_there_on(*other[1:])


def test_a_flip_of_the_reference_counts_like_one_of_the_port():
    flipped = with_flip(routers(), layer=1, row=0, position=3)
    assert touched(flips_of(routers(), reference=flipped), "logits") == from_there_on(0, 3)


def test_the_same_experts_in_another_order_are_no_flip():
    port = routers()
    for logits in port.values():
        best, second = logits.topk(CHOSEN, -1).indices.unbind(-1)
        logits.scatter_(-1, best[..., None], 50.0)
        logits.scatter_(-1, second[..., None], 60.0)
    assert flips_of(port).number == 0


def test_a_tie_that_is_a_tie_on_all_sides_is_no_flip():
    tied = {site: torch.ones_like(logits) for site, logits in routers().items()}
    assert flips_of(tied, oracle=tied).number == 0


def test_a_near_tie_that_falls_the_other_way_is_a_flip():
    oracle = {"blocks.0.mlp.router": torch.tensor([[[3.0, 1.0, 1.0 + 1e-4, 0.0]]])}
    nudged = {site: logits + torch.tensor([0, 2e-4, 0, 0]) for site, logits in oracle.items()}
    assert flips_of(nudged, oracle=oracle).number == 1


def test_a_flip_at_padding_touches_nothing():
    real = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    real[1, :3] = False
    flips = flips_of(with_flip(routers(), layer=0, row=1, position=2), real=real)
    assert (flips.number, flips.untouched("logits")) == (0, None)


def test_a_port_without_the_router_is_judged_by_the_references():
    flipped = with_flip(routers(), layer=0, row=1, position=2)
    assert flips_of({}, reference=flipped).number == 1
    assert flips_of({}).number == 0


@pytest.mark.parametrize(
    ("oracle", "chosen"), [({"blocks.0.mlp_out": torch.zeros(1, 2, 3)}, CHOSEN), (routers(), 0)]
)
def test_a_model_without_routing_has_no_flips(oracle, chosen):
    flips = flips_between((oracle, oracle), oracle, chosen=chosen, real=all_real(oracle))
    assert flips is NO_FLIPS
    assert NO_FLIPS.untouched("logits") is None


@pytest.mark.parametrize(
    ("config", "number"),
    [
        ({"num_experts_per_tok": 2}, 2),
        ({"experts_per_token": 4}, 4),
        ({"moe_top_k": 6}, 6),
        ({"num_experts_per_tok": None, "experts_per_token": 4}, 4),
        ({"num_experts": 8}, 0),
        ({}, 0),
    ],
)
def test_the_number_of_experts_is_read_by_whatever_name_the_config_has_it(config, number):
    assert experts_chosen(config) == number
