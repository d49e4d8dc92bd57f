import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.case import DEVICES, DTYPES, LOADING_MODES, Case, Cell
from harness.scheduling import case_of

FILE = "cases/test_ports_agree.py::test_port_agrees_with_reference"
CHECKPOINTS = st.sampled_from(["synthetic", "synthetic:gpt2-small"]) | st.text(
    "abz019.[]@-_/:", min_size=1
).map(lambda name: f"hub:{name}")
CASES = st.builds(
    Case,
    family=st.sampled_from(["gpt2", "gpt_oss"]),
    variant=st.sampled_from(["default", "bridge", "bridge.exact", "a.cpu"]),
    checkpoint=CHECKPOINTS,
)


def node_of(cell, *, test=FILE):
    return f"{test}[{cell.id}]"


def cells_of(case):
    return [
        Cell(case=case, loading_mode=mode, dtype=dtype, device=device)
        for mode in LOADING_MODES
        for dtype in DTYPES
        for device in DEVICES
    ]


@given(CASES)
def test_all_cells_of_a_case_go_to_one_worker(case):
    assert {case_of(node_of(cell)) for cell in cells_of(case)} == {case.id}


@given(CASES, CASES)
def test_cells_of_other_cases_stand_apart(one, other):
    scopes = [case_of(node_of(cells_of(case)[0])) for case in (one, other)]
    assert (scopes[0] == scopes[1]) == (one.id == other.id)


@given(CASES)
def test_cells_of_a_case_go_to_one_worker_from_a_folder_with_brackets_too(case):
    nodes = [node_of(cell, test=f"run[1].x/{FILE}") for cell in cells_of(case)]
    assert len({case_of(node) for node in nodes}) == 1


@pytest.mark.parametrize(
    "node",
    [
        "tests/test_case.py::test_something",
        "tests/test_case.py::test_something[gpt2]",
        "tests/test_case.py::test_something[gpt2-default.bridge]",
        "tests/test_case.py::test_something[gpt2-default.bridge.exact.else]",
        "tests/test_case.py::test_something[.bridge.exact]",
        "tests/test_case.py::test_something[gpt2-default.bridge.exact] and more",
    ],
)
def test_every_other_test_stands_alone(node):
    assert case_of(node) == node
