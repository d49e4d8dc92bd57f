"""The summary of a job: what to do first, on one screen; and a gate's annotations."""

import math

import pytest

from harness.judge.gate import Change, Gate, GateCell
from harness.report.annotations import of_gate
from harness.report.gates import write_gate
from harness.report.summary import MOST_ROWS, gate_markdown

ONE_SCREEN = 40
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
