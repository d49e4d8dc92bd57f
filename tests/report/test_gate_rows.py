"""A gate read back as a DataFrame."""

import json
import math

import pandas as pd
import pytest

import harness
from harness.errors import RunFolderError
from harness.judge.gate import Change, Gate, GateCell
from harness.record import read_sealed, write_sealed
from harness.report.gates import write_gate


def cell(mode, verdict, **more):
    axes = {"family": "gpt2", "variant": "default", "checkpoint": "synthetic", "device": "cpu"}
    name = f"gpt2-default.{mode}.exact"
    return GateCell(
        **axes, cell_id=name, loading_mode=mode, dtype="exact", verdict=verdict, **{**MORE, **more}
    )


MORE = {"worse": False}
GATE = Gate(
    baseline="transformers==5.9.0",
    candidate="transformers==5.23.0",
    cells=(
        cell("bridge", "unchanged", error_ratio_old=1.0, error_ratio_new=1.0),
        cell(
            "hf_sdpa",
            "port_moved",
            worse=True,
            attribution="port",
            nature="meaning",
            first_site="blocks.0.attn.z",
            drift=math.inf,
            moved_by=("transformers", "torch"),
        ),
    ),
    packages=(Change(name="transformers", old="5.9.0", new="5.23.0"),),
)


@pytest.fixture
def folder(tmp_path):
    write_gate(GATE, tmp_path)
    return tmp_path


def test_every_cell_is_a_row_with_who_moved_and_where(folder):
    frame = harness.read_gate(folder)
    assert list(frame.verdict) == ["unchanged", "port_moved"]
    worse = frame[frame.worse].iloc[0]
    assert (worse.first_site, worse.attribution, worse.nature) == (
        "blocks.0.attn.z",
        "port",
        "meaning",
    )
    assert (worse.drift, worse.moved_by) == (math.inf, "transformers torch")
    assert frame.error_old.isna().tolist() == [False, True]


def test_axes_and_verdicts_are_categories_and_packages_stand_in_attrs(folder):
    frame = harness.read_gate(folder / "gate.json")
    for name in ("family", "loading_mode", "dtype", "verdict", "first_site"):
        assert isinstance(frame[name].dtype, pd.CategoricalDtype)
    assert frame.attrs["packages"] == {"transformers": ("5.9.0", "5.23.0")}
    assert frame.attrs["overall"] == "worse"


def test_a_gate_of_no_cell_has_no_row(tmp_path):
    write_gate(Gate(baseline="a", candidate="b", cells=()), tmp_path)
    assert harness.read_gate(tmp_path).empty


@pytest.mark.parametrize("text", [None, "{", "[]", json.dumps({"schema_version": 99})])
def test_what_is_no_gate_is_refused(text, tmp_path):
    if text is not None:
        (tmp_path / "gate.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"no gate|schema_version=99"):
        harness.read_gate(tmp_path)


def test_a_bit_that_turned_in_a_gate_is_told(folder):
    file = folder / "gate.json"
    content = file.read_bytes()
    harness.read_gate(folder)
    for bit in range(5, len(content) * 8, 2003):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        with pytest.raises(RunFolderError, match=r"gate\.json is no gate .*next: harness gate"):
            harness.read_gate(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cells", 7), ("overall", None), ("counts", []), ("packages", [{"name": "torch"}])],
)
def test_a_gate_with_an_entry_of_another_type_is_refused(name, value, folder):
    write_sealed(folder / "gate.json", read_sealed(folder / "gate.json") | {name: value})
    with pytest.raises(RunFolderError, match="is no gate"):
        harness.read_gate(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("drift", "much"),
        ("drift", 10**400),
        ("moved_by", [None]),
        ("prompt", {"tokens": [[1]]}),
        ("lost_sites", [["x"]]),
        ("worse", "no"),
        ("verdict", "fine"),
        ("error_ratio", {"old": 1.0}),
    ],
)
def test_a_gate_with_a_cell_that_none_writes_is_refused(name, value, folder):
    gate = read_sealed(folder / "gate.json")
    gate["cells"][0][name] = value
    write_sealed(folder / "gate.json", gate)
    with pytest.raises(RunFolderError, match="is no gate"):
        harness.read_gate(folder)


def test_a_gate_without_a_seal_as_older_ones_are_is_read(folder):
    before = harness.read_gate(folder)
    (folder / "gate.json").write_text(json.dumps(read_sealed(folder / "gate.json")))
    assert harness.read_gate(folder).equals(before)
