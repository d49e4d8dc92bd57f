import math

import pytest

from harness.measure.accuracy import MOVES, Accuracy, accuracies
from harness.measure.fingerprint import STANDARD_ERROR


@pytest.fixture(scope="module")
def found():
    return list(accuracies("gpt2", elements=2))


def test_each_move_is_measured_at_every_site_that_it_reaches(found):
    assert [each.moved_by for each in found] == list(MOVES)
    assert {len(each.true) for each in found} == {len(found[0].true)}
    assert len(found[0].true) > 50


def test_a_smaller_move_is_a_smaller_drift(found):
    large, middle, small = (each.median_drift for each in found)
    assert large / middle == pytest.approx(1e3, rel=0.01)
    assert middle / small == pytest.approx(1e3, rel=0.01)


def test_the_estimate_is_right_within_its_stated_error(found):
    for each in found:
        # Two estimates of a spread from some 80 drifts each differ by a fifth at most.
        assert each.rms_error == pytest.approx(STANDARD_ERROR, rel=0.4)
        assert abs(each.quantile(0.99) - 1) < 4 * STANDARD_ERROR


def test_an_estimate_that_is_wrong_would_be_seen():
    wrong = Accuracy(family="gpt2", moved_by=1e-3, true=(1.0, 2.0), estimated=(2.0, 4.0))
    assert (wrong.ratios, wrong.rms_error, wrong.quantile(0.5)) == ([2.0, 2.0], 1.0, 2.0)
    right = Accuracy(family="gpt2", moved_by=1e-3, true=(1.0, 2.0), estimated=(1.0, 2.0))
    assert (right.rms_error, math.isclose(right.median_drift, 1.5)) == (0.0, True)
