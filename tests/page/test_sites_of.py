"""The rows of a page's sites: the worst prompt's, in forward order, by what is allowed."""

import math

import pandas as pd
import pytest

from harness.page.packing import labels, number, numbers
from harness.page.sites import sites_of


def delta(cell_id, site, judged, **more):
    plain = {"dtype": "float32", "bound": 4.0, "rel_l2": 1e-7, "relation": "equal", "check": None}
    plain |= {"port_error": 1e-7, "reference_error": 1e-7, "max_abs": 1e-6, "shift_abs": 0.0}
    failed = more.pop("verdict", "pass")
    row = {"cell_id": cell_id, "site": site, "error_ratio": judged, "verdict": failed}
    return {**plain, **row, "passed_through": False, **more}


def found(*rows, cells=("a", "b")):
    return sites_of(pd.DataFrame(rows), cells)


def names(found):
    return [found["site"]["names"][code] for code in found["site"]["codes"]]


def test_the_worst_prompt_stands_for_all_in_forward_order():
    page = found(
        delta("a", "embed", 1.0),
        delta("a", "logits", 3.0, relation="shift", shift_abs=0.5),
        delta("a", "embed", 2.0),
        delta("a", "logits", 1.0),
    )
    assert (names(page), page["share"], page["ends"]) == (["embed", "logits"], [0.5, 0.75], [2, 2])
    assert page["relation"]["names"][page["relation"]["codes"][1]] == "shift"
    assert page["shift_abs"] == [0.0, 0.5]


def test_rows_of_cells_are_apart_though_they_came_mixed():
    page = found(delta("b", "logits", 4.0), delta("a", "logits", 1.0), delta("b", "embed", 2.0))
    assert (names(page), page["ends"]) == (["logits", "logits", "embed"], [1, 3])
    assert page["share"] == [0.25, 1.0, 0.5]


def test_a_site_that_failed_on_another_prompt_has_failed():
    page = found(delta("a", "embed", 2.0), delta("a", "embed", 1.0, verdict="fail"))
    assert page["failed"] == [1]


@pytest.mark.parametrize(
    ("row", "share"),
    [
        ({"dtype": "exact", "bound": 1e-11, "rel_l2": 1e-12}, 0.1),
        ({"bound": 0.0, "rel_l2": 0.0}, 0.0),
        ({"bound": 0.0, "rel_l2": 1e-9}, 1e300),
        ({"error_ratio": math.nan}, 1e300),
        ({"error_ratio": math.inf}, 1e300),
    ],
)
def test_what_is_judged_is_divided_by_what_is_allowed(row, share):
    assert found(delta("a", "embed", 1.0) | row)["share"] == [pytest.approx(share)]


def test_a_cell_without_rows_has_none():
    assert found(delta("b", "embed", 1.0))["ends"] == [0, 1]


def test_numbers_have_three_digits_and_those_that_are_not_finite_a_name():
    assert [number(value) for value in (1.23456e-7, math.inf, -math.inf, math.nan, None)] == [
        1.23e-07,
        "inf",
        "-inf",
        "nan",
        None,
    ]
    assert numbers([1.0, math.nan]) == [1.0, None]


def test_labels_stand_once_and_what_is_missing_is_minus_one():
    assert labels(["a", None, "b", "a"]) == {"names": ["a", "b"], "codes": [0, -1, 1, 0]}
