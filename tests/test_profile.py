"""Profiles: what is asked without a word, and who is left out."""

from dataclasses import replace

import pytest

from cases import breadth
from harness.case import SHRUNK, Case, Cell, Limitation
from harness.errors import SelectionError
from harness.known import check
from harness.profile import BREADTH, DEFAULT, profile_of
from harness.selection import Selection, cells_of, probe_cells_of

ARCEE = Case(family="arcee", checkpoint=SHRUNK)
FLIPPED = Case(family="arcee", variant="off_default", checkpoint=SHRUNK)
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


def test_flipped_fields_are_asked_in_exact_mode_and_without_probes():
    cells = cells_of([FLIPPED], WIDE)
    assert {cell.loading_mode for cell in cells} == set(BREADTH.modes)
    assert {cell.dtype for cell in cells} == {"exact"}
    assert probe_cells_of([FLIPPED], WIDE) == ()
    assert profile_of(FLIPPED).name == BREADTH.name
    assert profile_of(replace(FLIPPED, checkpoint="synthetic")) is DEFAULT


@pytest.mark.parametrize(
    ("asked", "probes"),
    [
        ({"variant": ("off_default",)}, set()),
        ({"probe": ("padding",)}, set()),
        ({"variant": ("default",), "probe": ("padding",)}, set()),
        ({"variant": ("off_default",), "probe": ("padding",)}, {"padding"}),
        ({"variant": ("off_default",), "probe": ("none",)}, set()),
    ],
)
def test_their_probes_are_asked_of_who_names_both(asked, probes):
    selection = replace(WIDE, **asked)
    assert {cell.probe for cell in probe_cells_of([FLIPPED], selection)} == probes
    assert all(selection.admits(cell) for cell in probe_cells_of([FLIPPED], selection) if probes)


def test_breadth_has_both_variants_and_what_is_known_of_one_is_not_known_of_the_other(monkeypatch):
    known = (Limitation(outcome="differs", reason="so", link="", until="transformers>=99"),)
    other = (replace(known[0], reason="another"),)
    monkeypatch.setattr(breadth, "LIMITATIONS", {("llama", "causal"): known})
    assert limitations("llama") == {"default": known, "off_default": ()}
    monkeypatch.setattr(breadth, "LIMITATIONS", {("llama", "causal_off_default"): other})
    assert limitations("llama") == {"default": (), "off_default": other}
    assert set(limitations("bart")) == {
        "default", "off_default", "seq2seq", "seq2seq_off_default"
    }  # fmt: skip


def limitations(family):
    return {case.variant: case.limitations for case in breadth.cases() if case.family == family}


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
    check(Selection(profile=("breadth",), variant=("off_default", "masked_off_default")))
    check(Selection(family=("anything",), checkpoint=("folder:here",)))
    with pytest.raises(SelectionError, match="unknown family 'arcee'"):
        check(Selection(family=("arcee",)))
    with pytest.raises(SelectionError, match="unknown family 'arce'; did you mean 'arcee'"):
        check(Selection(profile=("breadth",), family=("arce",)))
    with pytest.raises(SelectionError, match="unknown profile 'wide'"):
        check(Selection(profile=("wide",)))
