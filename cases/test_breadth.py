"""Every architecture of the installed transformers: `--profile breadth`."""

import pytest

from cases import breadth


@pytest.mark.harness(breadth.cases, profile="breadth")
def test_architecture_agrees_with_reference(cell, check_cell):
    check_cell(cell)


@pytest.mark.harness(breadth.cases, profile="breadth")
def test_architecture_keeps_what_it_owes(probe_cell, check_cell):
    check_cell(probe_cell)
