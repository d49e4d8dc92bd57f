"""Models of the hub with real weights, as models.txt pins them: `make cases` leaves them out."""

from pathlib import Path

import pytest

from harness import Case

LINES = Path(__file__).with_name("models.txt").read_text(encoding="utf-8").splitlines()
PINS = [line.split() for line in LINES if line.strip() and not line.startswith("#")]
CASES = [Case(family=family, checkpoint=f"hub:{model}@{commit}") for family, model, commit in PINS]


@pytest.mark.harness(*CASES)
def test_port_agrees_with_reference(cell, check_cell):
    check_cell(cell)


@pytest.mark.harness(*CASES)
def test_model_keeps_what_it_owes(probe_cell, check_cell):
    check_cell(probe_cell)
