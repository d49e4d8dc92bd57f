import numpy as np
import pytest

from harness.measure.kernels import BLOCK, effective_number


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ([3.0], 1),
        ([1.0, -1.0, 1.0, -1.0], 4),
        ([1e4, *[1.0] * 99], 1),
        ([2.0, 2.0, 0.0, 0.0], 2),
        ([], 0),
        ([0.0, 0.0], 0),
        ([np.inf, 1.0], 0),
    ],
)
def test_the_values_that_carry_a_norm_are_counted(values, number):
    found = effective_number(np.array(values, dtype=np.float32))
    assert found == pytest.approx(number, rel=1e-5)


def test_they_are_counted_over_all_blocks():
    assert effective_number(np.ones(3 * BLOCK + 5)) == pytest.approx(3 * BLOCK + 5)


def test_a_third_of_normally_distributed_values_carries_their_norm():
    drawn = np.random.default_rng(0).normal(size=200_000)
    assert effective_number(drawn) == pytest.approx(200_000 / 3, rel=0.02)
