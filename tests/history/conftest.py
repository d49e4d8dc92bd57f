import functools

import nights
import pytest


@pytest.fixture
def write_night(tmp_path):
    """Give a function that writes one run below a folder of this test's own."""
    write = functools.partial(nights.write_night, tmp_path / "runs")
    write.folder = tmp_path / "runs"
    return write


@pytest.fixture
def cells():
    """Give the function that gives the columns of cells."""
    return nights.cells_of
