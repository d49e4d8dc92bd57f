import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.case import DEVICES, DTYPES, LOADING_MODES, Case, Cell
from harness.scheduling import ByCase, case_of, cell_of

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


class Node:
    """A worker as the scheduler sees it."""

    def __init__(self):
        self.given, self.shutting_down = [], False
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, indices):
        self.given.append(list(indices))

    def shutdown(self):
        self.shutting_down = True


TESTS = [
    node_of(cell) for family in ("gpt2", "llama") for cell in cells_of(Case(family=family))[:2]
]


@pytest.fixture
def config():
    """Give what the scheduler asks of pytest's configuration."""
    return SimpleNamespace(option=SimpleNamespace(), getvalue=lambda _: ["popen"])


@pytest.fixture
def scheduler(config):
    """Give a function that makes the scheduler of some workers, all of which have collected."""

    def make(*nodes, begun=lambda _: True):
        made = ByCase(config, None, begun=begun)
        made.numnodes = len(nodes)
        for node in nodes:
            made.add_node(node)
            made.add_node_collection(node, TESTS)
        made.schedule()
        return made

    return make


def replaced(made, node):
    """Let a worker die and another one take its place; give it, and the test that was at hand."""
    crashed, new = made.remove_node(node), Node()
    made.add_node(new)
    made.add_node_collection(new, TESTS)
    made.schedule()
    return new, crashed


def test_a_test_that_killed_its_worker_is_over_and_the_next_worker_does_the_rest(scheduler):
    first = Node()
    made = scheduler(first)
    made.mark_test_complete(first, 0)
    second, crashed = replaced(made, first)
    assert crashed == TESTS[1]
    assert sorted(itertools.chain(*second.given)) == [2, 3]
    assert second.shutting_down, "it would wait for a test after its last"


def test_a_worker_that_was_told_to_end_is_given_nothing_when_another_dies(scheduler):
    first, second = Node(), Node()
    made = scheduler(first, second)
    assert second.shutting_down
    made.mark_test_complete(second, 2)
    given = list(second.given)
    made.remove_node(first)
    assert (second.given, len(made.workqueue)) == (given, 1)


def test_a_group_that_is_done_is_not_given_again(scheduler):
    first = Node()
    made = scheduler(first)
    for done in (0, 1, 2):
        made.mark_test_complete(first, done)
    second, crashed = replaced(made, first)
    assert (crashed, second.given, made.tests_finished) == (TESTS[3], [], True)


def test_a_worker_that_dies_before_its_test_began_is_nobodys_fault(scheduler):
    made = scheduler(Node(), begun=lambda _: False)
    second, crashed = replaced(made, made.nodes[0])
    assert (crashed, second.given) == (None, [[0, 1]]), "the other group comes when these are done"


def test_a_worker_that_still_collects_is_given_nothing_when_another_dies(scheduler):
    first = Node()
    made = scheduler(first)
    late = Node()
    made.add_node(late)
    made.remove_node(first)
    assert late.given == []


def test_a_worker_that_dies_before_all_have_collected_is_not_waited_for(config):
    made = ByCase(config, None, begun=lambda _: True)
    made.numnodes = 2
    first, second = Node(), Node()
    for node in (first, second):
        made.add_node(node)
    made.add_node_collection(first, TESTS)
    made.remove_node(first)
    made.add_node_collection(second, TESTS)
    assert not made.collection_is_completed


@given(CASES)
def test_the_cell_of_a_test_is_named_by_its_id(case):
    for cell in cells_of(case):
        assert cell_of(node_of(cell, test=f"run[1].x/{FILE}")) == cell.id
    assert cell_of(FILE) is None
