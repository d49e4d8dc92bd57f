"""The summary of a job: what to do first, on one screen; and a gate's annotations."""

import math

import pytest

from harness.judge.gate import Change, Gate, GateCell
from harness.record import COLUMNS, SCHEMA_VERSION, write_json, write_part
from harness.report.annotations import of_gate, of_run
from harness.report.gates import write_gate
from harness.report.summary import MOST_ROWS, gate_markdown, run_markdown

ONE_SCREEN = 40
PACKAGES = {"torch": "2.13.0", "transformers": "5.23.0", "transformer-lens": None}
CHANGED = (Change(name="transformers", old="5.9.0", new="5.23.0"),)


def cell(verdict="unchanged", mode="bridge", *, worse=False, **more):
    axes = {"family": "gpt2", "variant": "default", "checkpoint": "synthetic", "device": "cpu"}
    name = f"gpt2-default.{mode}.exact"
    return GateCell(
        **{**axes, **more},
        cell_id=name,
        loading_mode=mode,
        dtype="exact",
        verdict=verdict,
        worse=worse,
    )


def moved(verdict="port_moved", mode="bridge", nature="meaning", **more):
    told = {"attribution": "port", "first_site": "blocks.1.mlp_out", "moved_by": ("transformers",)}
    return cell(verdict, mode, worse=True, nature=nature, **{**told, "drift": 0.3, **more})


@pytest.fixture
def lines(tmp_path):
    """Give a function that writes a gate and gives its summary's lines."""

    def told(*cells):
        gate = Gate(
            baseline="transformers==5.9.0",
            candidate="transformers==5.23.0",
            cells=cells,
            packages=CHANGED,
        )
        write_gate(gate, tmp_path)
        return gate_markdown(tmp_path).splitlines()

    return told


def test_two_regressions_fit_one_screen_and_the_first_words_say_what_to_do(lines):
    refused = [cell("unmeasured", f"mode{i}", reason="it refuses") for i in range(30)]
    told = lines(moved(), moved(mode="hf_sdpa"), *refused, cell("rounding"))
    assert len(told) <= ONE_SCREEN
    assert told[0] == "### ✗ worse: transformers==5.9.0 → transformers==5.23.0"
    assert told[2].startswith("**First:** `gpt2-default.bridge.exact` first at `blocks.1.mlp_out`.")
    assert "Hold the bump of transformers back for gpt2" in told[2]
    assert told[4].endswith("--family gpt2 --variant default --mode bridge --dtype exact")
    assert sum(line.startswith("| `gpt2") for line in told) == 2
    assert any("30 cells, most since `it refuses`" in line for line in told)
    assert any("transformers 5.9.0 → 5.23.0" in line for line in told)


def test_meaning_comes_before_rounding(lines):
    told = lines(moved(nature="rounding"), moved(mode="hf_sdpa"))
    assert told[2].startswith("**First:** `gpt2-default.hf_sdpa.exact`")


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("reference_moved", "The reference computes something else"),
        ("both_moved", "Port and reference moved"),
        ("broke", "It ran before and does not now"),
        ("vanished", "It was measured before and is not now"),
        ("tokens_moved", "other tokens"),
        ("appeared", "It is new, and not right"),
    ],
)
def test_what_to_do_follows_from_what_happened(verdict, said, lines):
    assert said in lines(moved(verdict, first_site=None, drift=math.inf))[2]


def test_many_regressions_are_cut_and_counted(lines):
    told = lines(*(moved(mode=f"mode{i}") for i in range(50)))
    assert len(told) <= ONE_SCREEN
    assert f"… and {50 - MOST_ROWS} more that are worse: gate.md has all" in told


def test_where_nothing_is_worse_nothing_is_to_be_done(lines):
    told = lines(cell(), cell("rounding", "hf_sdpa"))
    assert told[0].startswith("### ✓ nothing is worse:")
    assert not any("First" in line for line in told)


def test_a_gate_that_compared_nothing_is_not_green(lines):
    told = lines(cell("unmeasured", reason="no port"))
    assert told[0].startswith("### ✗ nothing could be compared:")
    assert "**First:**" in told[2]


def test_an_annotation_is_one_line_with_its_marks_escaped(lines, tmp_path):
    lines(moved(reason="100% off:\nsee, there", family="a:b"), cell())
    (line,) = of_gate(tmp_path)
    assert line == (
        "::error title=gpt2-default.bridge.exact::port_moved · meaning · blocks.1.mlp_out · "
        "100%25 off:%0Asee, there"
    )


def run_of(folder, *verdicts, caught=True):
    """Write a run of cells by their verdicts, and its control."""
    described = {"schema_version": SCHEMA_VERSION, "run_id": "a-run", "packages": PACKAGES}
    write_json(folder / "run.json", described)
    for number, verdict in enumerate(verdicts):
        name = f"gpt2-v{number}.bridge.exact"
        write_part(folder, "cells", name, [cell_row(name, verdict)])
    told = {"fault": "epsilon", "expected_site": "s", "first_site": "s" if caught else None}
    axes = {"run_id": "a-run", "cell_id": "c", "family": "gpt2", "port": "bridge"}
    axes |= {"loading_mode": "bridge", "dtype": "exact", "words": "", "seconds": 0.1}
    write_part(folder, "controls", "c", [{**axes, **told, "caught": caught}])
    return folder


def cell_row(name, verdict):
    row = dict.fromkeys((column.name for column in COLUMNS["cells"]), None)
    row |= {key: 0 for key in row if key.startswith(("sites_", "n_", "routing", "unjudged"))}
    row |= {"run_id": "a-run", "cell_id": name, "family": "gpt2", "variant": "v"}
    row |= {"checkpoint": "synthetic", "port": "bridge", "loading_mode": "bridge", "dtype": "exact"}
    row |= {"device": "cpu", "missing_sites": "", "seconds": 0.1, "peak_rss_mb": 1.0}
    reason = None if verdict == "pass" else "it differs"
    site = "blocks.1.mlp_out" if verdict == "fail" else None
    return {**row, "verdict": verdict, "reason": reason, "first_site": site}


def test_a_red_run_says_first_which_cell_and_names_its_site(tmp_path):
    told = run_markdown(run_of(tmp_path, "pass", "fail", "unavailable")).splitlines()
    assert told[0] == "### ✗ a-run: 1 pass, 1 fail, 1 unavailable"
    assert told[2] == "**First:** `gpt2-v1.bridge.exact`: `it differs`"
    assert told[4] == "    harness explain a-run gpt2-v1.bridge.exact"
    assert any("| `blocks.1.mlp_out` |" in line for line in told)
    assert "1 controls planted, 1 caught · torch 2.13.0, transformers 5.23.0" in "".join(told)
    (line,) = of_run(tmp_path)
    assert line == "::error title=gpt2-v1.bridge.exact::fail: it differs"


def test_a_green_run_has_nothing_to_be_done(tmp_path):
    told = run_markdown(run_of(tmp_path, "pass", "known"))
    assert told.startswith("### ✓ a-run: 1 pass, 1 known")
    assert "First" not in told
    assert list(of_run(tmp_path)) == []


def test_a_control_that_is_not_caught_comes_before_all_else(tmp_path):
    told = run_markdown(run_of(tmp_path, "pass", "fail", caught=False)).splitlines()
    assert told[0].startswith("### ✗ a-run")
    assert told[2].startswith("**First:** CONTROL NOT CAUGHT in c: epsilon")
