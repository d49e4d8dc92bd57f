"""Which cells carry a control, and what is said of one that was not caught."""

import shutil

import pytest
from planting import cells_of

from harness.case import Case, Cell, Limitation
from harness.judge.controls import chosen, uncaught
from harness.record import read_cells, read_controls, write_part

KNOWN = Limitation(outcome="differs", reason="it is", link="x", until="torch>99", sites=("logits",))


def cell(family="gpt2", mode="bridge", dtype="exact", **more):
    return Cell(case=Case(family=family, **more), loading_mode=mode, dtype=dtype)


def test_each_family_and_port_has_one_and_another_seed_chooses_another():
    cells = [
        cell(family, mode, dtype)
        for family in ("gpt2", "llama")
        for mode in ("bridge", "bridge_compat", "hf_sdpa")
        for dtype in ("exact", "float32")
    ]
    for seed in ("monday", "tuesday", "wednesday"):
        names = chosen(cells, seed=seed)
        groups = {(each.case.family, each.mode.port) for each in cells if each.id in names}
        assert len(names) == len(groups) == 4
    assert len({chosen(cells, seed=str(seed)) for seed in range(20)}) > 3


def test_the_choice_does_not_depend_on_the_order_of_the_cells():
    cells = [cell(dtype=dtype) for dtype in ("exact", "float32")]
    assert chosen(cells, seed="x") == chosen(cells[::-1], seed="x")


@pytest.mark.parametrize(
    "lesser",
    [
        cell(limitations=(KNOWN,), variant="unscaled"),
        cell(checkpoint="synthetic:gpt2-small"),
        cell(dtype="bfloat16"),
        Cell(case=Case(family="gpt2"), loading_mode="bridge", dtype="exact", probe="causality"),
    ],
    ids=["of which a difference is known", "large", "coarse", "a probe"],
)
def test_a_cell_that_tells_little_or_late_is_not_chosen(lesser):
    for seed in range(10):
        assert chosen([lesser, cell()], seed=str(seed)) == {cell().id}


@pytest.fixture
def run(recorded, tmp_path):
    """Give a copy of a run with a green comparison through each of two ports."""
    measured = recorded(cells_of("bridge", "hf_sdpa", dtypes=("exact",)))
    return shutil.copytree(measured, tmp_path / "mine")


def control(run, port, *, caught, **others):
    name = f"gpt2-default.{'bridge' if port == 'bridge' else 'hf_sdpa'}.exact"
    row = {
        "run_id": "mine",
        "cell_id": name,
        "family": "gpt2",
        "port": port,
        "loading_mode": "bridge",
        "dtype": "exact",
        "fault": "epsilon × 1.2 at blocks.0.ln1.out",
        "expected_site": "blocks.0.ln1.out",
        "first_site": "blocks.0.ln1.out" if caught else None,
        "caught": caught,
        "words": "",
        "seconds": 0.1,
        **others,
    }
    write_part(run, "controls", name, [row])


def test_a_control_that_is_not_caught_is_told_with_what_was_planted(run):
    control(run, "bridge", caught=True)
    control(run, "transformers", caught=False)
    (line,) = uncaught(read_cells(run), read_controls(run))
    assert line.startswith("CONTROL NOT CAUGHT in gpt2-default.hf_sdpa.exact: epsilon × 1.2")


def test_a_control_that_could_not_be_planted_is_told_with_the_reason(run):
    control(run, "bridge", caught=True)
    control(run, "transformers", caught=False, fault=None, words="the bank has no fault")
    (line,) = uncaught(read_cells(run), read_controls(run))
    assert line.startswith("CONTROL NOT CAUGHT in gpt2-default.hf_sdpa.exact: the bank has no fa")


def test_a_green_port_without_a_control_is_told(run):
    control(run, "bridge", caught=True)
    (line,) = uncaught(read_cells(run), read_controls(run))
    assert line.startswith("NO CONTROL of gpt2 through transformers")


def test_controls_that_are_caught_are_silent(run):
    control(run, "bridge", caught=True)
    control(run, "transformers", caught=True)
    assert uncaught(read_cells(run), read_controls(run)) == []
