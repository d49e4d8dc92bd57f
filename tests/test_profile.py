"""Profiles: what is asked without a word, and who is left out."""

import pytest

from harness.case import SHRUNK, Case, Cell
from harness.errors import SelectionError
from harness.known import check
from harness.profile import BREADTH, DEFAULT, profile_of
from harness.selection import Selection, cells_of, probe_cells_of

ARCEE = Case(family="arcee", checkpoint=SHRUNK)
GPT2 = Case(family="gpt2")
WIDE = Selection(profile=("breadth",))


def test_a_shrunk_case_has_the_modes_and_dtypes_of_breadth():
    cells = cells_of([ARCEE], WIDE)
    assert {cell.loading_mode for cell in cells} == set(BREADTH.modes)
    assert {cell.dtype for cell in cells} == set(BREADTH.dtypes)
    assert profile_of(ARCEE) is BREADTH
    assert profile_of(GPT2) is DEFAULT


def test_its_probes_are_asked_of_the_reference_in_exact_mode():
    cells = probe_cells_of([ARCEE], WIDE)
    assert {(cell.loading_mode, cell.dtype) for cell in cells} == {("hf_eager", "exact")}
    assert {"causality", "cached_decoding", "padding"} <= {cell.probe for cell in cells}


def test_a_release_without_a_mode_is_not_asked_it():
    modes = {cell.loading_mode for cell in cells_of([ARCEE], WIDE, modes=("hf_sdpa", "hooked"))}
    assert modes == {"hf_sdpa"}
    assert {c.loading_mode for c in cells_of([GPT2], Selection(), modes=("hooked",))} == {"hooked"}
    assert probe_cells_of([ARCEE], WIDE, modes=("bridge",)) == ()


@pytest.mark.parametrize(
    ("asked", "wide", "default"),
    [
        ({}, False, True),
        ({"profile": ("breadth",)}, True, False),
        ({"profile": ("breadth", "default")}, True, True),
        ({"checkpoint": (SHRUNK,)}, True, False),
        ({"checkpoint": (SHRUNK, "synthetic")}, True, True),
        ({"checkpoint": (SHRUNK,), "profile": ("default",)}, False, False),
    ],
)
def test_a_profile_admits_its_own_cells_alone(asked, wide, default):
    selection = Selection(**asked)
    cells = [Cell(case=case, loading_mode="bridge", dtype="exact") for case in (ARCEE, GPT2)]
    assert [selection.admits(cell) for cell in cells] == [wide, default]


def test_names_are_those_of_the_profiles_that_are_asked_for():
    check(Selection(profile=("breadth",), family=("arcee",), variant=("default",)))
    check(Selection(family=("anything",), checkpoint=("folder:here",)))
    with pytest.raises(SelectionError, match="unknown family 'arcee'"):
        check(Selection(family=("arcee",)))
    with pytest.raises(SelectionError, match="unknown family 'arce'; did you mean 'arcee'"):
        check(Selection(profile=("breadth",), family=("arce",)))
    with pytest.raises(SelectionError, match="unknown profile 'wide'"):
        check(Selection(profile=("wide",)))
