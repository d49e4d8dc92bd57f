"""Scores of planted faults, and rates of false alarms, in words."""

import pandas as pd
import pytest
from rich.console import Console

from harness.report.scores import (
    alarms,
    is_good,
    not_green,
    rate,
    score_table,
    sums,
    survivors,
    upper_bound,
)


def finding(result, **more):
    row = {
        "family": "gpt2",
        "variant": "default",
        "loading_mode": "bridge",
        "dtype": "exact",
        "probe": None,
        "kind": "epsilon",
        "fault": "epsilon",
        "amount": "× 1.2",
        "site": "blocks.0.ln1.out",
        "expected": "blocks.0.ln1.out",
        "found": None if result == "survived" else "blocks.0.ln1.out",
        "result": result,
        "words": "",
        "seconds": 0.1,
    }
    return {**row, **more}


def told(table):
    console = Console(width=110, record=True)
    console.print(table)
    return console.export_text()


def test_the_score_counts_what_was_planted_and_not_what_is_idle():
    found = pd.DataFrame([finding("caught"), finding("survived"), finding("idle"), finding("void")])
    assert "1/2" in told(score_table(found))
    lines = "\n".join(sums(found))
    assert "left out: 1 idle" in lines
    assert "left out: 1 void" in lines
    assert "exact: caught 1 of 2 (50.00%)" in lines


def test_each_survivor_of_exact_mode_has_a_line():
    found = pd.DataFrame([finding("survived"), finding("survived", dtype="bfloat16")])
    (line,) = survivors(found, dtype="exact")
    assert line.startswith("survived: gpt2-default bridge: epsilon: epsilon × 1.2")


@pytest.mark.parametrize(
    ("results", "good"),
    [
        (["caught"] * 20, True),
        (["caught"] * 20 + ["idle"], True),
        (["caught"] * 20 + ["elsewhere"], True),
        (["caught"] * 5 + ["elsewhere"], False),
        (["caught"] * 200 + ["survived"], False),
        (["idle"] * 20, False),
        (["not green"], False),
        (["raised"], False),
    ],
)
def test_one_survivor_in_exact_mode_is_one_too_many(results, good):
    assert is_good(pd.DataFrame([finding(result) for result in results])) is good


def test_without_exact_mode_nothing_is_judged():
    assert is_good(pd.DataFrame([finding("survived", dtype="bfloat16")]))


def test_a_cell_that_is_red_without_a_fault_is_told_and_not_counted():
    red = finding("not green", words="port differs\nand more", found="embed")
    found = pd.DataFrame([finding("caught"), red])
    assert list(not_green(found)) == ["not examined: gpt2-default bridge (exact): port differs"]
    assert "1/1" in told(score_table(found))


def test_cells_that_are_red_for_one_reason_are_told_together():
    modes, dtypes = ("bridge", "bridge_compat"), ("exact", "float32")
    found = pd.DataFrame(
        [
            finding("not green", words="differs", loading_mode=mode, dtype=dtype)
            for mode in modes
            for dtype in dtypes
        ]
    )
    told = "not examined: gpt2-default bridge, bridge_compat (exact, float32): differs"
    assert list(not_green(found)) == [told]


@pytest.mark.parametrize(
    ("red", "number", "bound"),
    [
        (0, 5000, 5.99e-4),
        (0, 1, 0.95),
        (1, 100, 0.0466),
        (5, 100, 0.1023),
        (3, 3, 1.0),
    ],  # R: binom.test
)
def test_the_upper_bound_of_a_rate_is_clopper_and_pearsons(red, number, bound):
    assert upper_bound(red, number) == pytest.approx(bound, rel=2e-3)


def test_a_red_clean_cell_is_counted_and_told():
    axes = {"family": "gpt2", "variant": "default", "loading_mode": "bridge", "dtype": "float32"}
    common = {**axes, "environment": "current", "threads": 1, "reason": "why"}
    rows = [
        {
            **common,
            "environment": "current",
            "seed": seed,
            "threads": 1,
            "verdict": verdict,
            "reason": "why",
        }
        for seed, verdict in enumerate(["pass", "fail", "pass"])
    ]
    verdicts = pd.DataFrame(rows)
    assert list(alarms(verdicts)) == [
        "RED gpt2-default bridge float32 seed 1 in current on 1 threads: why"
    ]
    assert "│        3 │   1 │" in told(rate(verdicts))
