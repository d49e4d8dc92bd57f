"""A page of 200 families × 10 modes × 3 dtypes: its size, and how long it takes to answer."""

import time

import numpy as np
import pytest
from playwright.sync_api import expect

from harness.page.writing import write_page

FAMILIES, MODES, DTYPES = 200, 10, ("exact", "float32", "bfloat16")
SITES = [
    "embed",
    *(f"blocks.{i}.{name}" for i in range(3) for name in "abcdefghijklmnop"),
    "logits",
]
SIZE_MB = 15
SECONDS = 1.0
"""Within which a filter must have answered; a person calls a tenth of it a stutter, on a machine
that does nothing else."""


def labels(names, codes):
    return {"names": list(names), "codes": [int(code) for code in codes]}


@pytest.fixture(scope="session")
def large():
    """Give a run's data with random numbers, which pack worse than any real ones."""
    rng = np.random.default_rng(0)
    number = FAMILIES * MODES * len(DTYPES)
    family, mode, dtype = np.unravel_index(range(number), (FAMILIES, MODES, len(DTYPES)))
    families = [f"family{i}" for i in range(FAMILIES)]
    modes = [f"mode{i}" for i in range(MODES)]
    ids = [
        f"family{f}-default.mode{m}.{DTYPES[d]}"
        for f, m, d in zip(family, mode, dtype, strict=True)
    ]
    nothing, rows = [-1] * number, number * len(SITES)

    def random():
        return [float(f"{value:.3g}") for value in rng.lognormal(-9, 2, rows)]

    return {
        "kind": "run",
        "title": "large",
        "command": "harness replay large",
        "verdicts": ["pass", "fail"],
        "red": ["fail"],
        "modes": modes,
        "probes": [],
        "relation": "processing",
        "about": [],
        "cells": {
            "cell_id": labels(ids, range(number)),
            "family": labels(families, family),
            "group": labels(families, family),
            "variant": labels(["default"], [0] * number),
            "checkpoint": labels(["synthetic"], [0] * number),
            "loading_mode": labels(modes, mode),
            "dtype": labels(DTYPES, dtype),
            "device": labels(["cpu"], [0] * number),
            "verdict": labels(["pass", "fail"], rng.random(number) < 0.01),
            **{name: labels([], nothing) for name in ("probe", "reason", "first_site")},
            **{name: labels([], nothing) for name in ("first_prompt_id", "limitation")},
            "sites_compared": [len(SITES)] * number,
            "sites_passed_through": [0] * number,
        },
        "sites": {
            "ends": [len(SITES) * (i + 1) for i in range(number)],
            "site": labels(SITES, np.tile(range(len(SITES)), number)),
            "relation": labels(["equal"], [0] * rows),
            "check": labels([], [-1] * rows),
            "failed": [0] * rows,
            "passed_through": [0] * rows,
            **{name: random() for name in ("share", "rel_l2", "port_error", "reference_error")},
            **{name: random() for name in ("max_abs", "shift_abs")},
        },
        "messages": {},
        "prompts": {},
        "positions": {},
        "alarms": [],
        "controls": 0,
    }


def test_it_is_small_and_answers_at_once(large, tmp_path, opened):
    file = tmp_path / "large.html"
    write_page(large, file)
    assert file.stat().st_size < SIZE_MB * 1e6
    page = opened(file)
    chips = page.locator("[data-cell]")
    expect(chips).to_have_count(FAMILIES * MODES * len(DTYPES))
    started = time.monotonic()
    page.keyboard.press("/")
    page.keyboard.type("family77")
    expect(chips).to_have_count(MODES * len(DTYPES))
    filtered = time.monotonic()
    page.keyboard.press("Escape")
    expect(chips).to_have_count(FAMILIES * MODES * len(DTYPES))
    chips.first.click()
    page.wait_for_selector("#map .heatmaplayer")
    assert filtered - started < SECONDS
