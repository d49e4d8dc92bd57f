from dataclasses import replace

import pytest

from harness.case import DEFAULT_DTYPES, DEFAULT_MODES, DEVICES, DTYPES, LOADING_MODES, Case, Cell
from harness.errors import SelectionError, UsageError
from harness.selection import AXES, Selection, cells_of, check_names, selection_of, values_of

FAMILIES = ("gpt2", "llama")
VARIANTS = ("default", "gqa")
CASES = (
    Case(family="gpt2"),
    Case(family="llama", variant="gqa"),
    Case(family="gpt2", checkpoint="synthetic:gpt2-small"),
)
KNOWN = {
    "family": FAMILIES,
    "variant": VARIANTS,
    "mode": tuple(LOADING_MODES),
    "dtype": DTYPES,
    "device": DEVICES,
}
CELL = Cell(case=CASES[1], loading_mode="bridge", dtype="exact")


def check(**asked):
    check_names(Selection(**asked), families=FAMILIES, variants=VARIANTS)


@pytest.mark.parametrize("axis", KNOWN)
def test_every_known_name_is_let_through(axis):
    check(**{axis: KNOWN[axis]})


@pytest.mark.parametrize(
    ("axis", "name", "nearest"),
    [
        ("family", "lama", "llama"),
        ("variant", "gqs", "gqa"),
        ("mode", "bridge_compact", "bridge_compat"),
        ("dtype", "float23", "float32"),
        ("device", "cudaa", "cuda"),
        ("family", "zzz", None),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_others(axis, name, nearest):
    with pytest.raises(SelectionError, match=f"unknown {axis} '{name}'") as raised:
        check(**{axis: (*KNOWN[axis], name)})
    told = str(raised.value)
    assert (f"did you mean {nearest!r}?" in told) if nearest else ("did you mean" not in told)
    assert all(known in told for known in KNOWN[axis])


def test_a_wrong_selection_is_a_wrong_use_of_the_command():
    assert issubclass(SelectionError, UsageError)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ([], ()),
        (["gpt2"], ("gpt2",)),
        (["gpt2,llama"], ("gpt2", "llama")),
        (["gpt2,llama", "bloom"], ("gpt2", "llama", "bloom")),
        (["gpt2,"], ("gpt2",)),
    ],
)
def test_values_are_given_one_by_one_or_by_commas(words, values):
    assert values_of(words) == values


@pytest.mark.parametrize("words", [[""], [",", ""]])
def test_an_option_that_names_nothing_is_refused_and_does_not_ask_for_everything(words):
    with pytest.raises(SelectionError, match="names nothing"):
        values_of(words)


def test_who_asks_for_nothing_in_particular_gets_all_modes_in_the_default_dtypes_on_the_cpu():
    cells = cells_of(CASES, Selection())
    assert len(cells) == len(CASES) * len(DEFAULT_MODES) * len(DEFAULT_DTYPES)
    assert {cell.case for cell in cells} == set(CASES)
    assert {cell.loading_mode for cell in cells} == set(DEFAULT_MODES)
    assert {cell.dtype for cell in cells} == set(DEFAULT_DTYPES)
    assert {cell.device for cell in cells} == {"cpu"}


def test_dtypes_and_devices_outside_the_default_are_there_for_who_asks():
    selection = Selection(dtype=("float16",), device=("cuda", "cpu"))
    cells = cells_of(CASES, selection)
    assert {(cell.dtype, cell.device) for cell in cells} == {
        ("float16", "cuda"),
        ("float16", "cpu"),
    }
    assert all(selection.admits(cell) for cell in cells)


def test_no_cell_is_there_twice():
    cells = cells_of(CASES, Selection(dtype=DTYPES, device=DEVICES))
    assert len({cell.id for cell in cells}) == len(cells)


def test_real_weights_come_before_synthetic_ones():
    kinds = [cell.case.checkpoint == "synthetic" for cell in cells_of(CASES, Selection())]
    assert kinds == sorted(kinds)


def test_no_cases_give_no_cells():
    assert cells_of((), Selection()) == ()


OF_THE_CELL = {
    "family": "llama",
    "variant": "gqa",
    "mode": "bridge",
    "dtype": "exact",
    "device": "cpu",
    "checkpoint": "synthetic",
    "probe": "none",
    "profile": "default",
}


@pytest.mark.parametrize("axis", AXES)
def test_a_cell_is_admitted_by_its_value_on_each_axis_and_by_no_other(axis):
    assert Selection(**{axis: ("another", OF_THE_CELL[axis])}).admits(CELL)
    assert not Selection(**{axis: ("another",)}).admits(CELL)


PROBED = replace(CELL, probe="causality")


def test_probes_are_asked_by_name_all_or_not_at_all():
    assert Selection().admits(PROBED)
    assert Selection(probe=("all",)).admits(PROBED)
    assert Selection(probe=("padding", "causality")).admits(PROBED)
    assert not Selection(probe=("padding",)).admits(PROBED)
    assert not Selection(probe=("none",)).admits(PROBED)
    assert not Selection(probe=("all",)).admits(CELL)
    assert Selection(probe=("none", "all")).admits(CELL)


def test_a_cell_must_be_asked_for_on_every_axis():
    assert Selection().admits(CELL)
    assert Selection(family=("llama",), dtype=("exact",)).admits(CELL)
    assert not Selection(family=("llama",), dtype=("float32",)).admits(CELL)


@pytest.mark.parametrize(
    "asked", [{}, {"family": ("gpt2",)}, {"dtype": ("exact", "float32"), "family": ("a", "b")}]
)
def test_what_was_asked_can_be_stored_and_asked_again(asked):
    assert Selection(**asked).asked() == asked
    assert Selection(**Selection(**asked).asked()) == Selection(**asked)


def test_what_a_run_was_asked_for_is_read_from_its_description():
    asked = Selection(family=("arcee",), profile=("breadth",))
    assert selection_of({"selection": asked.asked()}) == asked
    assert selection_of({}) == Selection()
    case = Case(family="arcee", checkpoint="shrunk")
    cell = Cell(case=case, loading_mode="bridge", dtype="exact")
    assert selection_of({"selection": asked.asked()}).admits(cell)
    assert not Selection().admits(cell)  # by which a resumed run of breadth had no cell to gate
