"""Every cell of the default matrix: the port agrees with the reference, in its mode's sense."""

import pytest

from cases import ALL


@pytest.mark.harness(*ALL)
def test_port_agrees_with_reference(cell, check_cell):
    check_cell(cell)
