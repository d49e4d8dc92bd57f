"""One cell over its layers: lines drawn by share of what is allowed, failures named."""

import math

import pandas as pd
import pytest
from rich.console import Console

from harness.report.layers import sparkline, table_of
from harness.report.shares import shares_of


def delta(site, layer, judged, **more):
    plain = {"dtype": "float32", "bound": 4.0, "rel_l2": 0.0, "relation": "equal", "shift_abs": 0.0}
    return {**plain, "site": site, "layer": layer, "error_ratio": judged, **more}


@pytest.mark.parametrize(
    ("shares", "line"),
    [
        ({}, ""),
        ({0: 0.0, 1: 1e-9}, "▁▁"),
        ({0: 1.0, 1: 1.0001}, "▇█"),
        ({0: math.inf, 2: 0.01}, "█ ▄"),
        ({3: math.nan}, "█"),
    ],
)
def test_a_line_is_as_high_as_the_share_and_full_where_it_fails(shares, line):
    assert sparkline(shares) == line


def test_sites_stand_in_forward_order_with_their_worst_layer():
    cell = pd.Series(
        {
            "cell_id": "gpt2-default.bridge.float32",
            "loading_mode": "bridge",
            "dtype": "float32",
            "device": "cpu",
            "probe": math.nan,
            "verdict": "fail",
        }
    )
    deltas = pd.DataFrame(
        [
            delta("embed", math.nan, 0.4),
            delta("blocks.0.mlp_out", 0, 1.0),
            delta("blocks.1.mlp_out", 1, 40.0),
            delta("blocks.1.mlp_out", 1, 2.0),
            delta("logits", math.nan, 1.0, relation="shift", shift_abs=0.25),
        ]
    )
    console = Console(width=150, record=True)
    console.print(table_of(cell, deltas))
    lines = [line for line in console.export_text().splitlines() if "│" in line]
    assert [line.replace("│", " ").split() for line in lines] == [
        ["embed", "0.1", "equal"],
        ["✗", "mlp_out", "▆█", "10", "1", "equal"],
        ["logits", "0.25", "shift", "0.25"],
    ]


def test_what_may_not_differ_by_one_bit_has_no_share_between_none_and_endless():
    rows = pd.DataFrame([delta("embed", 0, 9.0, bound=0.0, rel_l2=value) for value in (0.0, 1e-9)])
    assert shares_of(rows).tolist() == [0.0, math.inf]
