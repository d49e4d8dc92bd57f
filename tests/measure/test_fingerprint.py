import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.measure.fingerprint import STANDARD_ERROR, Fingerprint, printed, seed_of
from harness.measure.kernels import _TABLE, BUCKETS, print_of, sketch

SIZES = st.integers(1, 200)
# Of the numbers 0 … 99 under the seed "golden": what baselines were recorded with.
GOLDEN = [37, -38, -113, -120, -41, -42, -117, -44, -119, -28, -27, 144, -49, 150, 125, 52, -159]
GOLDEN += [-20, -55, -130, 171, 16, -15, 134, 183, 136, 89, -37, -93, 37, 97, 99, -101, -103, -37]
GOLDEN += [107, 109]
GOLDEN_DIGEST = -7332852311158474856
IN_A_FRESH_PROCESS = """
import torch
from harness.measure.kernels import print_of, sketch
values = torch.arange(100)
print([int(bucket) for bucket in sketch(values, seed="golden")], print_of(values, seed=None).digest)
"""


def random_values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def digest_of(values):
    return print_of(values, seed=None).digest


def size_of(sketched):
    return float(np.linalg.norm(sketched))


def estimates(size, *, number=2000):
    """Give estimated ÷ true norm of many random vectors."""
    vectors = [random_values(size, seed=seed) for seed in range(number)]
    return np.array(
        [size_of(sketch(v, seed=str(n))) / float(v.norm()) for n, v in enumerate(vectors)]
    )


def fingerprint(*tensors, sketched=True, difference=None, **more):
    found = Fingerprint()
    for number, values in enumerate(tensors):
        seed = seed_of("logits", str(number), values)
        away = None if difference is None else sketch(difference, seed=seed)
        of_prompt = printed(values, number=values.numel(), seed=seed if sketched else None, **more)
        found.add(of_prompt, difference=away)
    return found


@given(size=SIZES, seed=st.integers(0, 1000), factor=st.floats(-1e3, 1e3))
def test_a_sketch_is_linear(size, seed, factor):
    left, right = random_values(size, seed=seed), random_values(size, seed=seed + 1)
    whole = sketch(left + factor * right, seed="a")
    parts = sketch(left, seed="a") + factor * sketch(right, seed="a")
    np.testing.assert_allclose(whole, parts, rtol=0, atol=1e-12 * (1 + abs(factor)) * size)


@pytest.mark.parametrize("size", [300, 5000])
def test_a_sketch_estimates_a_norm_within_its_stated_error(size):
    found = estimates(size)
    assert math.sqrt(np.mean((found - 1) ** 2)) == pytest.approx(STANDARD_ERROR, rel=0.1)
    assert math.isclose(STANDARD_ERROR, 0.1162, rel_tol=1e-3)


@pytest.mark.parametrize("d_model", [20, 64, 576, 768, 4096])
@pytest.mark.parametrize("part", [np.s_[:, 5], np.s_[0], np.s_[:, :8]], ids=str)
def test_a_channel_or_a_position_that_outweighs_all_others_is_estimated_no_worse(d_model, part):
    """Buckets go round by place: a stride that came back to one bucket would estimate by luck."""
    values = random_values(37, d_model)
    values.numpy()[part] *= 1e4
    norm = float(values.norm())
    found = [size_of(sketch(values, seed=str(seed))) / norm for seed in range(1000)]
    assert math.sqrt(np.mean(np.subtract(found, 1) ** 2)) < 1.3 * STANDARD_ERROR


def test_of_no_more_values_than_buckets_the_norm_is_no_estimate():
    values = random_values(BUCKETS)
    assert size_of(sketch(values, seed="a")) == pytest.approx(float(values.norm()), rel=1e-14)


def test_the_square_of_an_estimate_is_right_on_average():
    # The mean of 2000 squares, each with a standard error of 2 × 12.5 %, lies within 4 of its own.
    assert np.mean(estimates(300) ** 2) == pytest.approx(1, abs=4 * 0.25 / math.sqrt(2000))


@pytest.mark.parametrize("relative", [1e-3, 1e-9, 1e-13, 1e-15])
def test_a_difference_of_that_share_of_the_norm_is_resolved(relative):
    values, direction = random_values(4, 11, 20), random_values(4, 11, 20, seed=1)
    other = values + relative * direction
    true = float((other - values).norm())
    gap = size_of(sketch(other, seed="a") - sketch(values, seed="a"))
    # Each bucket is a sum of some thirty values, and its last place is rounded as theirs are.
    assert gap == pytest.approx(true, rel=0.6)


def test_equal_values_have_equal_sketches_and_their_difference_is_none():
    values = random_values(4, 11, 20)
    assert size_of(sketch(values.clone(), seed="a") - sketch(values, seed="a")) == 0


def test_another_seed_is_another_sketch():
    values = random_values(300)
    assert not np.allclose(sketch(values, seed="a"), sketch(values, seed="b"))


def test_the_numbers_are_those_that_baselines_were_recorded_with():
    values = torch.arange(100)
    assert sketch(values, seed="golden").tolist() == GOLDEN
    assert digest_of(values) == GOLDEN_DIGEST


def test_the_numbers_are_the_same_in_a_fresh_process():
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"{GOLDEN} {GOLDEN_DIGEST}"


@pytest.mark.parametrize("place", [0, _TABLE - 1, _TABLE, _TABLE + 4])
def test_a_tensor_longer_than_the_table_is_sketched_to_its_end(place):
    values = torch.zeros(_TABLE + 5, dtype=torch.float64)
    values[place] = 3.0
    found = sketch(values, seed="a")
    assert (len(found), size_of(found)) == (BUCKETS, 3.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_value_counts_for_what_it_is_in_any_dtype_and_layout(dtype):
    values = torch.arange(12, dtype=dtype).reshape(3, 4).T
    plain = values.double().contiguous()
    assert digest_of(values) == digest_of(plain)
    assert sketch(values, seed="a").tolist() == sketch(plain, seed="a").tolist()


def test_minus_zero_has_the_digest_of_zero():
    assert digest_of(torch.tensor([-0.0, 1.0])) == digest_of(torch.tensor([0.0, 1.0]))


@given(size=SIZES, seed=st.integers(0, 1000), data=st.data())
def test_one_bit_more_is_another_digest(size, seed, data):
    values = random_values(size, seed=seed)
    other, place = values.clone(), data.draw(st.integers(0, size - 1))
    other[place] = math.nextafter(float(values[place]), math.inf)
    assert digest_of(other) != digest_of(values)
    assert digest_of(values.clone()) == digest_of(values)


def test_another_shape_is_another_digest():
    assert digest_of(torch.zeros(2, 3)) != digest_of(torch.zeros(3, 2))


def test_the_order_of_prompts_is_part_of_a_digest():
    first, second = random_values(2, 3), random_values(2, 3, seed=1)
    digests = [fingerprint(*order).row()["digest"] for order in ((first, second), (second, first))]
    assert len(set(digests)) == 2


@pytest.mark.parametrize("count", ["masked", "nonfinite"])
def test_what_does_not_count_is_part_of_a_digest(count):
    values = random_values(2, 3)
    other, same = fingerprint(values, **{count: 1}), fingerprint(values, **{count: 0})
    assert other.row()["digest"] != fingerprint(values).row()["digest"]
    assert same.row() == fingerprint(values).row()


def test_the_numbers_of_a_row_are_those_of_all_prompts_laid_end_to_end():
    tensors = [random_values(2, 3, seed=seed) + 1 for seed in range(3)]
    row, values = fingerprint(*tensors).row(), torch.cat(tensors)
    assert row["norm"] == pytest.approx(float(values.norm()))
    assert row["mean_value"] == pytest.approx(float(values.mean()))
    assert row["std_value"] == pytest.approx(float(values.std(correction=0)))
    assert row["n_values"] == values.numel()


def test_values_that_do_not_count_leave_mean_and_std_as_they_are():
    found = Fingerprint()
    found.add(printed(torch.tensor([2.0, 4.0, 0.0]).double(), number=2))
    row = found.row()
    assert (row["mean_value"], row["std_value"]) == pytest.approx((3.0, 1.0))


def test_a_fingerprint_of_nothing_has_numbers_none_the_less():
    row = fingerprint().row()
    assert (row["norm"], row["mean_value"], row["std_value"], row["n_values"]) == (0, 0, 0, 0)


def test_each_prompt_has_a_norm_and_a_projection_and_together_they_are_the_sketch():
    tensors = [random_values(2, 3, seed=seed) for seed in range(3)]
    found = fingerprint(*tensors)
    assert found.norms == [float(values.norm()) for values in tensors]
    assert math.fsum(found.projections) == pytest.approx(float(found.sketch.sum()))


def test_a_port_keeps_the_sketch_of_its_distance_alone():
    values = random_values(2, 3)
    found = fingerprint(values, sketched=False, difference=torch.full((2, 3), 1e-3))
    assert (found.projections, size_of(found.sketch)) == ([], 0)
    assert size_of(found.difference) > 0


def test_the_sketch_of_a_distance_is_that_of_the_port_less_that_of_the_reference():
    port, reference = random_values(2, 3), random_values(2, 3, seed=1)
    distance = fingerprint(port, difference=port - reference).difference
    np.testing.assert_allclose(
        distance, fingerprint(port).sketch - fingerprint(reference).sketch, atol=1e-14
    )


@pytest.mark.parametrize("sides", [(1e308, 1e308), (math.inf, -math.inf), (math.inf, 1.0)])
def test_a_distance_that_has_no_sum_says_so_in_its_sketch_and_warns_of_nothing(sides):
    found = Fingerprint()
    kept = printed(torch.ones(1), number=1)
    for side in sides:
        found.add(kept, difference=np.full(BUCKETS, side))
    assert not np.isfinite(found.difference).any()
