import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.measure.compare import (
    compare,
    effective_number,
    identical,
    kl_nats,
    relative_distance,
    top1_agreement,
)
from harness.measure.relations import EQUAL, Relation

INF, NAN = math.inf, math.nan
SHIFT = Relation(kind="shift", because="a test")
AFFINE = Relation(
    kind="affine", because="a test", scale=torch.tensor(2.0), offset=torch.tensor(0.5)
)
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
SEEDS = st.integers(0, 2**32)


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def pairs(draw):
    """Draw two tensors of any size and nearness, and which of their entries count."""
    shape = draw(SHAPES)
    expected = noise(draw(SEEDS), *shape) * 10.0 ** draw(st.integers(-12, 12))
    gap = noise(draw(SEEDS), *shape) * 10.0 ** draw(st.integers(-9, 1))
    counts = noise(draw(SEEDS), *shape) > draw(st.sampled_from([-9.0, 0.0]))
    counts.view(-1)[0] = True
    return expected * (1 + gap), expected, counts


def compared(actual, expected, counts=None, *, relation=EQUAL):
    shape = torch.broadcast_shapes(actual.shape, expected.shape)
    counts = torch.ones(shape, dtype=torch.bool) if counts is None else counts
    return compare(actual, expected, relation=relation, counts=counts)


def nearly(value):
    return pytest.approx(float(value), rel=1e-9, abs=0.0)


@given(pairs())
def test_every_number_is_numpys(pair):
    found = compared(*pair)
    actual, expected, counts = (side.numpy() for side in pair)
    left, right = actual[counts], expected[counts]
    gap = np.abs(left - right)
    assert (found.max_abs, found.raw_max_abs) == (nearly(gap.max()), nearly(gap.max()))
    assert found.mean_abs == nearly(gap.mean())
    assert found.rms == nearly(np.sqrt((gap**2).mean()))
    assert found.rel_l2 == nearly(np.linalg.norm(gap) / np.linalg.norm(right))
    assert (found.std_actual, found.std_expected) == (
        pytest.approx(left.std(), rel=1e-6),
        pytest.approx(right.std(), rel=1e-6),
    )
    assert found.compared == counts.sum()


@given(pairs())
def test_means_and_cosine_are_numpys(pair):
    found = compared(*pair)
    actual, expected, counts = (side.numpy() for side in pair)
    left, right = actual[counts], expected[counts]
    size = np.abs(right).max()
    assert found.mean_actual == pytest.approx(left.mean(), abs=1e-9 * size)
    assert found.mean_expected == pytest.approx(right.mean(), abs=1e-9 * size)
    assert found.cosine == pytest.approx(
        left @ right / np.linalg.norm(left) / np.linalg.norm(right), abs=1e-9
    )


@given(pairs())
def test_max_abs_is_the_least_absolute_tolerance_that_torch_allows(pair):
    actual, expected, counts = pair
    most = compared(*pair).max_abs
    close = torch.isclose(actual, expected, rtol=0.0, atol=most) | ~counts
    assert bool(close.all())
    closer = torch.isclose(actual, expected, rtol=0.0, atol=0.999 * most) | ~counts
    assert most == 0.0 or not bool(closer.all())


@given(st.floats(1e-9, 1e9), st.floats(1e-12, 0.5), st.floats(1e-12, 0.5))
def test_on_one_number_rel_l2_is_torchs_relative_tolerance(size, away, allowed):
    actual, expected = torch.tensor([size * (1 + away)]).double(), torch.tensor([size]).double()
    within = compared(actual, expected).rel_l2 <= allowed
    assert within == bool(torch.isclose(actual, expected, rtol=allowed, atol=0.0))


@given(pairs(), st.sampled_from([1e-9, 0.5, 1e9]))
def test_rel_l2_has_no_unit_and_max_abs_and_rms_have_the_tensors(pair, factor):
    actual, expected, counts = pair
    once, scaled = compared(*pair), compared(actual * factor, expected * factor, counts)
    assert scaled.rel_l2 == pytest.approx(once.rel_l2, rel=1e-6)
    assert scaled.max_abs == pytest.approx(once.max_abs * factor, rel=1e-6)
    assert scaled.rms == pytest.approx(once.rms * factor, rel=1e-6)


@given(pairs())
def test_a_tensor_is_no_distance_from_itself(pair):
    expected, counts = pair[1:]
    found = compared(expected, expected, counts)
    assert (found.max_abs, found.mean_abs, found.rms, found.rel_l2) == (0.0, 0.0, 0.0, 0.0)
    assert found.cosine == pytest.approx(1.0)


@given(pairs())
def test_worst_index_is_where_the_largest_distance_is(pair):
    actual, expected, counts = pair
    distance = torch.where(counts, (actual - expected).abs(), -1.0)
    assert distance[compared(*pair).worst_index] == distance.max()


@pytest.mark.parametrize(("one", "other"), [(NAN, 1.0), (NAN, NAN), (INF, 1.0), (INF, -INF)])
@given(where=st.integers(0, 11), swapped=st.booleans())
def test_a_value_that_is_not_finite_and_has_no_equal_is_infinitely_far(one, other, where, swapped):
    actual, expected = noise(1, 3, 4), noise(2, 3, 4)
    actual.view(-1)[where], expected.view(-1)[where] = (other, one) if swapped else (one, other)
    found = compared(actual, expected)
    assert (found.nonfinite, found.unpaired) == (1, 1)
    assert {found.max_abs, found.raw_max_abs, found.mean_abs, found.rms, found.rel_l2} == {INF}
    assert found.worst_index == divmod(where, 4)


@pytest.mark.parametrize("infinity", [INF, -INF])
def test_the_same_infinity_on_both_sides_is_reported_and_no_distance(infinity):
    actual, expected = noise(1, 3, 4), noise(2, 3, 4)
    rest = torch.ones(3, 4, dtype=torch.bool)
    actual[1, 2], expected[1, 2], rest[1, 2] = infinity, infinity, False
    found, without = compared(actual, expected), compared(actual, expected, rest)
    assert (found.nonfinite, found.unpaired) == (1, 0)
    assert found.rel_l2 == without.rel_l2 < INF


def test_where_every_entry_is_the_same_infinity_nothing_is_said_to_be_compared():
    found = compared(torch.full((3,), INF), torch.full((3,), INF))
    assert (found.compared, found.nonfinite, found.cosine) == (0, 3, None)


@pytest.mark.parametrize("relation", [EQUAL, SHIFT], ids=lambda relation: relation.kind)
@given(pair=pairs(), junk=st.sampled_from([NAN, INF, 1e300, 7.0]))
def test_entries_that_do_not_count_do_not_matter(relation, pair, junk):
    actual, expected, counts = pair
    spoilt = actual.masked_fill(~counts, junk), expected.masked_fill(~counts, -junk)
    assert compared(*spoilt, counts, relation=relation) == compared(*pair, relation=relation)


@given(pairs(), st.sampled_from([None, NAN, INF]))
def test_a_mask_spread_from_one_value_is_the_same_as_one_written_out(pair, planted):
    actual, expected, _ = pair
    if planted is not None:
        actual.view(-1)[0] = planted
    spread = torch.tensor([True]).expand(actual.shape)
    assert compared(actual, expected, spread) == compared(actual, expected, spread.clone())


def test_an_entry_that_counts_does_matter():
    actual = torch.zeros(2, 3)
    actual[1, 2] = 1e-30
    assert compared(actual, torch.zeros(2, 3)).max_abs > 0.0


@pytest.mark.parametrize("relation", [EQUAL, SHIFT, AFFINE], ids=lambda relation: relation.kind)
@given(pair=pairs(), planted=st.sampled_from([None, NAN, INF]), both=st.booleans())
def test_the_relative_distance_alone_is_the_same_number(relation, pair, planted, both):
    actual, expected, counts = (side.clone() for side in pair)
    if planted is not None:
        actual.view(-1)[0] = planted
        expected.view(-1)[0] = planted if both else 1.0
    wanted = compare(actual, expected, relation=relation, counts=counts).rel_l2
    assert relative_distance(actual, expected, relation=relation, counts=counts) == wanted


@pytest.mark.parametrize("measure", [compare, relative_distance])
def test_where_nothing_counts_there_is_an_error(measure):
    nothing = torch.zeros(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="no entry counts"):
        measure(noise(1, 3), noise(2, 3), relation=EQUAL, counts=nothing)


@pytest.mark.parametrize(
    ("actual", "expected", "counts"),
    [((2, 3), (2, 4), (2, 3)), ((2, 3), (3, 2), (2, 3)), ((2, 3), (2, 3), (3, 2))],
)
@pytest.mark.parametrize("measure", [compare, relative_distance])
def test_shapes_that_do_not_fit_are_an_error(measure, actual, expected, counts):
    with pytest.raises(ValueError, match="shapes: actual"):
        measure(
            noise(1, *actual),
            noise(2, *expected),
            relation=EQUAL,
            counts=torch.ones(counts, dtype=torch.bool),
        )


@given(pairs(), st.integers(1, 3))
def test_an_axis_of_size_one_stands_for_all(pair, times):
    actual, expected, _ = pair
    one, many = expected[None], expected.expand(times, *expected.shape)
    rows = actual.expand(times, *actual.shape)
    assert compared(rows, one) == compared(rows, many)
    assert compared(one, rows) == compared(many, rows)


def test_low_precision_is_compared_in_float64():
    actual, expected = noise(1, 50).bfloat16(), noise(2, 50)
    assert compared(actual, expected) == compared(actual.double(), expected)


@pytest.mark.parametrize(("actual", "expected", "rel_l2"), [(0.0, 0.0, 0.0), (1.0, 0.0, INF)])
def test_against_zeros_the_distance_is_none_or_infinite(actual, expected, rel_l2):
    found = compared(torch.full((3,), actual), torch.full((3,), expected))
    assert (found.rel_l2, found.cosine) == (rel_l2, None)


@given(SEEDS, st.integers(-6, 6))
def test_a_shift_takes_out_a_constant_per_position_and_says_how_large(seed, power):
    expected, constants = noise(seed, 2, 3, 4), noise(seed + 1, 2, 3, 1) * 10.0**power
    found = compared(expected + constants, expected, relation=SHIFT)
    assert found.rel_l2 < 1e-9
    assert found.shift_abs == pytest.approx(float(constants.abs().max()), rel=1e-6)
    assert found.raw_max_abs == pytest.approx(float(constants.abs().max()), rel=1e-6)


@given(SEEDS, st.integers(2, 9))
def test_a_shift_takes_out_nothing_else(seed, width):
    expected = noise(seed, 2, 3, width)
    actual = expected + noise(seed + 1, 2, 3, 1)
    actual[1, 2, 0] += 1.0
    found = compared(actual, expected, relation=SHIFT)
    assert found.max_abs == pytest.approx(1 - 1 / width, rel=1e-6)
    assert found.worst_index[:2] == (1, 2)


def test_without_a_shift_a_constant_stays_in():
    found = compared(torch.full((2, 3), 5.0), torch.full((2, 3), 2.0))
    assert (found.max_abs, found.shift_abs) == (3.0, 0.0)


@given(SEEDS)
def test_kl_is_torchs(seed):
    actual, expected = noise(seed, 4, 9), noise(seed + 1, 4, 9)
    wanted = torch.nn.functional.kl_div(
        actual.log_softmax(-1), expected.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    assert kl_nats(actual, expected) == pytest.approx(float(wanted), rel=1e-9)


def test_kl_is_in_nats_and_of_the_reference_against_the_port():
    actual, expected = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    wanted = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kl_nats(actual, expected) == pytest.approx(wanted, rel=1e-6)


def test_kl_is_per_token_and_not_per_word():
    actual, expected = noise(1, 1, 5), noise(2, 1, 5)
    impossible = torch.full((1, 95), -1e4, dtype=torch.float64)
    wider = [torch.cat([side, impossible], -1) for side in (actual, expected)]
    assert kl_nats(*wider) == pytest.approx(kl_nats(actual, expected))
    longer = [side.expand(7, 5) for side in (actual, expected)]
    assert kl_nats(*longer) == pytest.approx(kl_nats(actual, expected))


@given(SEEDS)
def test_kl_and_top1_do_not_see_a_constant_per_token(seed):
    expected = noise(seed, 4, 9)
    actual = expected + noise(seed + 1, 4, 1)
    assert abs(kl_nats(actual, expected)) < 1e-12
    assert top1_agreement(actual, expected) == 1.0


def test_top1_is_the_share_of_tokens_with_the_same_largest_logit():
    expected = torch.eye(4)
    assert top1_agreement(expected.roll(1, 0), expected) == 0.0
    assert top1_agreement(expected[[0, 1, 2, 2]], expected) == 0.75


@pytest.mark.parametrize("part", [slice(None), slice(1, None)])
def test_two_equal_tensors_compare_as_any_two_do(part):
    values = torch.randn(3, 4, 5)
    counts = torch.zeros(3, 4, 5, dtype=torch.bool)
    counts[part] = True
    found = identical(values, values.clone(), counts)
    assert found is not None
    wanted = compare(values, values, relation=EQUAL, counts=counts)
    for name in ("mean_actual", "std_expected", "cosine"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name))
    fields = ("max_abs", "rms", "rel_l2", "raw_max_abs", "nonfinite", "unpaired", "compared")
    assert [getattr(found, name) for name in fields] == [getattr(wanted, name) for name in fields]


def test_what_differs_by_a_bit_or_is_not_finite_is_not_identical():
    values = torch.ones(2, 3)
    other = values.clone()
    other[0, 0] += 1e-7
    every = torch.ones(2, 3, dtype=torch.bool)
    assert identical(values, other, every) is None
    values[1, 1] = torch.nan
    assert identical(values, values, every) is None
    values[1, 1] = torch.inf
    assert identical(values, values, every) is None


def test_a_norm_that_is_known_is_taken_for_the_expected_tensors():
    actual, expected = noise(1, 3, 4), noise(2, 3, 4)
    asked = {"relation": EQUAL, "counts": torch.ones((), dtype=torch.bool).expand(3, 4)}
    plain = relative_distance(actual, expected, **asked)
    size = float(expected.norm() ** 2)
    assert relative_distance(actual, expected, **asked, size=size) == pytest.approx(plain)
    doubled = relative_distance(actual, expected, **asked, size=4 * size)
    assert doubled == pytest.approx(plain / 2)


@pytest.mark.parametrize("relation", [EQUAL, SHIFT], ids=lambda relation: relation.kind)
def test_values_whose_squares_are_too_large_are_compared_without_a_warning(relation):
    expected = noise(1, 3, 4) * 1e200
    actual = expected * (1 + 1e-3)
    found = compared(actual, expected, relation=relation)
    assert not found.rel_l2 <= 1e300
    counts = torch.ones((), dtype=torch.bool).expand(3, 4)
    assert not relative_distance(actual, expected, relation=relation, counts=counts) <= 1e300


@pytest.mark.parametrize("lost", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("spread", [True, False])
def test_what_is_not_finite_or_does_not_count_carries_no_norm(lost, spread):
    values = torch.ones(12, dtype=torch.float64)
    values[3] = lost
    counts = torch.tensor(True).expand(12) if spread else torch.arange(12) < 8
    assert effective_number(values, counts) == pytest.approx(11 if spread else 7)
