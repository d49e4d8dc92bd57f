"""Steps of series: planted ones are found at their run, and noise has none."""

import math

import numpy as np
import pytest

from harness.history.steps import LEAST_RUNS, steps_of

RUNS = 60


def noisy(number, *, seed, n_runs=RUNS, draw="normal"):
    """Give error ratios of clean bfloat16 cells: near 1, scattered by a factor."""
    rng = np.random.default_rng(seed)
    drawn = {
        "normal": lambda: rng.normal(0.0, 0.1, (number, n_runs)),
        "heavy tails": lambda: 0.1 * rng.standard_t(4, (number, n_runs)),
        "maxima": lambda: 0.1 * rng.gumbel(size=(number, n_runs)),
        "a few values": lambda: rng.choice([0.0, 0.02, 0.3], (number, n_runs), p=[0.6, 0.3, 0.1]),
    }[draw]()
    return 10.0**drawn


@pytest.mark.parametrize("draw", ["normal", "heavy tails", "maxima", "a few values"])
def test_noise_has_no_step(draw):
    assert list(steps_of(noisy(2000, seed=0, draw=draw))) == []


@pytest.mark.parametrize("at", [LEAST_RUNS, 30, RUNS - LEAST_RUNS])
@pytest.mark.parametrize("factor", [10.0, 1e6, 0.1])
def test_a_planted_step_is_found_at_its_run_and_in_its_cell_alone(at, factor):
    values = noisy(50, seed=1)
    values[7, at:] *= factor
    assert list(steps_of(values)) == [(7, at)]


def test_a_few_bad_nights_are_two_steps():
    values = noisy(3, seed=2)
    values[1, 20:25] *= 100.0
    assert list(steps_of(values)) == [(1, 20), (1, 25)]


def test_one_odd_night_is_none():
    values = noisy(3, seed=3)
    values[1, 20] *= 1e6
    assert list(steps_of(values)) == []


@pytest.mark.parametrize("value", [math.inf, 1e300])
def test_what_becomes_infinite_has_taken_a_step(value):
    values = noisy(3, seed=4)
    values[2, 40:] = value
    assert list(steps_of(values)) == [(2, 40)]


def test_a_value_that_never_changes_takes_its_step_too():
    values = np.full((2, RUNS), 1e-15)
    values[0, 45:] = 1e-9
    assert list(steps_of(values)) == [(0, 45)]
    assert list(steps_of(np.zeros((4, RUNS)))) == []


@pytest.mark.parametrize("n_runs", [0, 1, 2 * LEAST_RUNS - 1])
def test_too_few_runs_have_no_step(n_runs):
    assert list(steps_of(np.ones((3, n_runs)))) == []
