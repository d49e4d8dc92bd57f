"""Sides of a gate; what was measured with the same faults planted is not measured twice."""

import dataclasses

import pytest
from planting import SDPA, record

from harness.judge.sides import read_side


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """Give a function that measures cells with faults planted, and gives the run's folder."""
    runs = {}

    def run(cells=SDPA, **planted):
        asked = (cells, *sorted(planted.items()))
        if asked not in runs:
            runs[asked] = record(tmp_path_factory.mktemp("runs") / "a-run", cells, **planted)
        return runs[asked]

    return run


@pytest.fixture(scope="session")
def measured(recorded):
    """Give a function that measures cells with faults planted, and gives the side."""

    def measure(cells=SDPA, *, name="candidate", **planted):
        return dataclasses.replace(read_side(recorded(cells, **planted)), name=name)

    return measure


@pytest.fixture(scope="session")
def clean(measured):
    """Give a side in which nothing is planted."""
    return measured(name="baseline")
