"""Every probe of the default matrix: the model keeps what it owes itself."""

import pytest

from cases import ALL


@pytest.mark.harness(*ALL)
def test_model_keeps_what_it_owes(probe_cell, check_cell):
    check_cell(probe_cell)
