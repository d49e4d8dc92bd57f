import dataclasses
import json
import math
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from harness.judge.gate import VERDICTS, WORSE, Change, Gate, GateCell
from harness.report import gates

PAGE = Path(__file__).parents[2] / "docs" / "gate.md"
PROMPT = {
    "prompt_id": "p1",
    "origin": "bank:short",
    "tokens": [[5, 6, 7], [8, 9, 10]],
    "attention_mask": [[1, 1, 1], [0, 1, 1]],
}
MOVED = {
    "reason": "1 sites are compared no more: embed",
    "attribution": "port",
    "nature": "meaning",
    "moved_by": ("transformer-lens 2 → 3",),
    "first_site": "blocks.0.mlp.post",
    "drift": 4.5e-4,
    "drift_reference": 0.0,
    "drift_port": 4.5e-4,
    "drift_logits": 1.5e-3,
    "error_ratio_old": 1.0,
    "error_ratio_new": math.inf,
    "prompt": PROMPT,
    "lost_sites": ("embed",),
}


def cell(verdict="unchanged", *, mode="bridge", **more):
    return GateCell(
        cell_id=f"gpt2-default.{mode}.exact",
        family="gpt2",
        variant="default",
        checkpoint="synthetic",
        loading_mode=mode,
        dtype="exact",
        device="cpu",
        verdict=verdict,
        **{"worse": verdict in WORSE, **more},
    )


def gate_of(*cells, packages=()):
    return Gate(baseline="old", candidate="new", cells=cells, packages=packages)


QUIET = {"unchanged", "rounding", "unmeasured"}
EVERY = gate_of(
    *(cell(verdict, mode=f"mode_{number}") for number, verdict in enumerate(VERDICTS)),
    cell("port_moved", **MOVED),
    packages=(Change(name="transformer-lens", old="2", new=None),),
)


def keys_of(value):
    """Give every key of a JSON value, at any depth."""
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set()


def printed(gate):
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(gates.table(gate))
    return captured.get()


@pytest.fixture
def written(tmp_path):
    gates.write_gate(EVERY, tmp_path / "deep" / "gate")
    return tmp_path / "deep" / "gate"


def test_a_gate_is_written_as_json_markdown_and_junit_and_leaves_nothing_beside(written):
    assert {file.name for file in written.iterdir()} == {"gate.json", "gate.md", "gate.xml"}


def test_gate_json_has_no_number_that_json_has_not(written):
    def refuse(name):
        raise AssertionError(name)

    found = json.loads((written / "gate.json").read_text(), parse_constant=refuse)
    assert found["cells"][-1]["error_ratio"] == {"old": 1.0, "new": "inf"}


@pytest.mark.parametrize(("value", "stored"), [(math.inf, "inf"), (math.nan, "nan"), (None, None)])
def test_a_number_that_is_none_is_told_in_letters(value, stored):
    found = gates.as_json(gate_of(cell("port_moved", **{**MOVED, "drift": value})))
    assert found["cells"][0]["drift"] == stored


def test_gate_json_has_every_field_of_a_cell():
    (found,) = gates.as_json(gate_of(cell("port_moved", **MOVED)))["cells"]
    names = {field.name for field in dataclasses.fields(GateCell)}
    assert set(found) == names - {"error_ratio_old", "error_ratio_new"} | {"error_ratio"}
    for name in ("verdict", "first_site", "drift", "drift_logits", "prompt", "attribution"):
        assert found[name] == {**MOVED, "verdict": "port_moved"}[name]


def test_gate_json_says_the_whole_in_short():
    found = gates.as_json(EVERY)
    assert (found["overall"], found["exit_code"], found["schema_version"]) == ("worse", 1, 1)
    assert (found["baseline"], found["candidate"]) == ("old", "new")
    assert found["packages"] == [{"name": "transformer-lens", "old": "2", "new": None}]
    assert found["counts"] == {**dict.fromkeys(VERDICTS, 1), "port_moved": 2}


def test_every_field_of_gate_json_is_documented():
    words = PAGE.read_text()
    missing = {name for name in keys_of(gates.as_json(EVERY)) if f"`{name}`" not in words}
    assert missing - set(VERDICTS) == set()


def test_every_verdict_is_documented():
    words = PAGE.read_text()
    assert [verdict for verdict in VERDICTS if f"| `{verdict}` |" not in words] == []


def test_a_field_that_is_not_documented_would_be_found():
    assert keys_of({"a": [{"b": 1}], "c": {"d": []}}) == {"a", "b", "c", "d"}


def test_junit_has_a_case_per_cell_and_counts_what_is_worse(written):
    suite = ET.parse(written / "gate.xml").getroot()  # noqa: S314 - we wrote it
    assert suite.get("tests") == str(len(EVERY.cells)) == str(len(suite.findall("testcase")))
    assert suite.get("failures") == str(len(EVERY.worse)) == str(len(suite.findall(".//failure")))
    assert suite.get("skipped") == "1" == str(len(suite.findall(".//skipped")))


def test_a_failure_in_junit_says_what_where_and_who():
    suite = ET.fromstring(gates.junit(gate_of(cell("port_moved", **MOVED))))  # noqa: S314 - the same
    failure = suite.find("testcase/failure")
    assert failure.get("message") == "port_moved"
    for words in ("blocks.0.mlp.post", "meaning", "transformer-lens 2 → 3", "compared no more"):
        assert words in failure.text


def test_nothing_worse_is_no_failure_in_junit():
    suite = ET.fromstring(gates.junit(gate_of(cell(), cell("rounding"), cell("fixed"))))  # noqa: S314
    assert (suite.get("failures"), suite.findall(".//failure")) == ("0", [])


def test_markdown_has_every_cell_that_is_worse_and_none_that_is_not(written):
    lines = (written / "gate.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| gpt2")]
    for each in EVERY.cells:
        told = sum(f"| {each.cell_id} | {each.verdict} |" in row for row in rows)
        assert told == (each.worse or each.verdict not in QUIET)


def test_a_table_in_markdown_is_as_wide_in_every_row():
    lines = gates.markdown(gate_of(cell("port_moved", **MOVED))).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


def test_words_with_a_bar_do_not_widen_a_row_in_markdown():
    odd = gate_of(cell("port_moved", **{**MOVED, "moved_by": ("a 1|2 → 3",)}))
    rows = [line for line in gates.markdown(odd).splitlines() if line.startswith("|")]
    assert len({row.replace(r"\|", "").count("|") for row in rows}) == 1


def test_the_worse_come_first_in_the_table():
    told = printed(gate_of(cell("fixed", mode="first"), cell("broke", mode="second")))
    assert told.index("broke") < told.index("fixed", told.index("gpt2-default"))


def test_the_table_tells_sizes_prompt_and_who_moved_it():
    told = " ".join(printed(gate_of(cell("port_moved", **MOVED))).split())
    for words in (
        "port_moved",
        "0.00045",
        "0.0015",
        "1 → inf",
        "bank:short 2x3",
        "transformer-lens",
    ):
        assert words in told


def test_a_long_table_is_cut_and_says_what_it_leaves_out():
    many = gate_of(*(cell("broke", mode=f"mode_{n}") for n in range(61)))
    assert gates.left_out(many) == "… and 1 more cells: gate.md has all of them"
    assert "mode_60" not in printed(many)
    assert "mode_60" in gates.markdown(many)


def test_a_table_that_has_every_row_leaves_out_nothing():
    assert gates.left_out(EVERY) == ""


def test_where_nothing_moved_there_is_no_row():
    assert not gates.has_rows(gate_of(cell(), cell("rounding")))
    assert gates.has_rows(gate_of(cell(), cell("vanished")))
    assert gates.has_rows(gate_of(cell("rounding", worse=True)))


def test_the_headline_counts_every_cell():
    assert gates.headline(gate_of(cell(), cell(), cell("broke"))) == (
        "worse: 2 unchanged, 1 broke (old → new)"
    )


def test_the_packages_that_differ_are_told_in_one_line():
    assert gates.packages_line(EVERY) == "transformer-lens 2 → (absent)"
    assert gates.packages_line(gate_of(cell())) == "no package differs"


def test_a_reason_is_told_once_with_how_many_cells_have_it():
    broken = [cell("broke", mode=name, reason="it does not import") for name in "abc"]
    told = gates.reasons(gate_of(*broken, cell("unmeasured", reason="no device")))
    assert told == ["3 broke: it does not import", "1 unmeasured: no device"]
