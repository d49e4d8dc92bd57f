from importlib.metadata import EntryPoint

import pandas as pd
import pytest

from harness import plugged, provenance
from harness.case import LOADING_MODES, Case, Cell, mode_named
from harness.errors import SelectionError
from harness.plugged import GROUP, plugged_ports
from harness.report import words
from harness.selection import Selection, check_names, is_asked


class Distribution:
    def __init__(self, name):
        self.name, self.version = name, "1.0"


def entry(name, value="mine:load", package="mine"):
    found = EntryPoint(name, value, GROUP)
    vars(found).update(dist=Distribution(package))
    return found


@pytest.fixture
def bring(monkeypatch):
    """Give a function that lets packages bring these entry points, and no others."""

    def bring(*entries):
        monkeypatch.setattr(plugged, "entry_points", lambda *, group: entries if group else ())

    return bring


def check(mode):
    check_names(Selection(mode=(mode,)), families=("gpt2",), variants=("default",))


def test_a_plugged_port_is_a_mode_that_can_be_asked_for(bring):
    bring(entry("mine"), entry("other", package="others"))
    assert list(plugged_ports()) == ["mine", "other"]
    assert plugged_ports()["other"].package == "others 1.0"
    check("mine")


def test_a_plugged_port_is_not_imported_to_be_asked_for(bring):
    bring(entry("mine", "there.is.no.such.module:load"))
    check("mine")


def test_an_unknown_mode_is_told_the_nearest_plugged_one(bring):
    bring(entry("mine_own"))
    with pytest.raises(SelectionError, match="did you mean 'mine_own'") as raised:
        check("mine_one")
    assert "bridge_compat" in str(raised.value)


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([entry("bridge")], "'bridge' is built in"),
        ([entry("transformers")], "'transformers' is built in"),
        ([entry("Mine.2")], "stands in names of files"),
        ([entry("a", package="one"), entry("a", "b:c", package="two")], "one 1.0 has 'a' too"),
    ],
)
def test_a_name_that_cannot_be_asked_for_is_told_with_its_package_and_what_to_do(
    entries, told, bring
):
    bring(*entries)
    with pytest.raises(SelectionError, match=told) as raised:
        check("hf_sdpa")
    assert f"pip uninstall {entries[-1].dist.name}" in str(raised.value)


def test_a_mode_outside_our_own_is_a_port_of_its_name():
    mode = Cell(case=Case(family="gpt2"), loading_mode="mine", dtype="exact").mode
    assert (mode.name, mode.port, mode.is_plugged) == ("mine", "mine", True)
    assert not any(mode.processing.flags().values())


@pytest.mark.parametrize("name", LOADING_MODES)
def test_none_of_our_own_modes_is_plugged(name):
    assert mode_named(name) == LOADING_MODES[name]
    assert not mode_named(name).is_plugged


def test_a_plugged_port_is_asked_what_a_port_is_and_not_what_the_reference_is():
    asked = {
        name
        for name in ("causality", "padding", "batch", "pattern", "hook_semantics", "save_load")
        if is_asked(name, mode="mine", dtype="exact")
    }
    assert asked == {"causality", "padding", "batch", "pattern", "hook_semantics"}


def test_a_run_says_which_release_of_a_port_it_measured(bring):
    bring(entry("mine", package="pytest-xdist"))
    assert provenance.gather()["packages"]["pytest-xdist"]


def test_the_table_of_a_run_has_a_column_for_a_plugged_mode():
    axes = {"family": "gpt2", "checkpoint": "synthetic", "dtype": "exact", "verdict": "pass"}
    worst = {"worst_error_ratio": 1.0, "worst_rel_l2": 1e-15}
    worst |= {"sites_compared": 3, "sites_passed_through": 0}
    cells = pd.DataFrame({**axes, **worst, "loading_mode": mode} for mode in ("mine", "hf_sdpa"))
    assert [column.header for column in words._matrix(cells).columns] == [
        "family",
        "hf\nsdpa",
        "mine",
    ]
