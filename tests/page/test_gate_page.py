"""The page of a gate with two regressions, opened in a real browser."""

import dataclasses
import shutil

import pytest
from planting import SDPA, SITE, cells_of, record, rounded, scaled

from harness.errors import RunFolderError
from harness.judge.gate import gate
from harness.judge.sides import read_side
from harness.page.writing import data_of, write_page
from harness.record import read_sealed, write_sealed
from harness.report.gates import write_gate

OTHERS = cells_of("bridge", dtypes=("exact",))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Gate a port's fault against a clean side; both sides' rows lie in the gate's folder."""
    folder = tmp_path_factory.mktemp("gates") / "a-gate"
    record(folder / "baseline", (*SDPA, *OTHERS))
    record(folder / "candidate", SDPA, port=scaled(1e-3))
    record(folder / "candidate", OTHERS)
    sides = [
        dataclasses.replace(read_side(folder / name), name=f"transformers=={version}")
        for name, version in (("baseline", "5.9.0"), ("candidate", "5.23.0"))
    ]
    write_gate(gate(*sides, [cell.id for cell in (*SDPA, *OTHERS)]), folder)
    return folder


@pytest.fixture(scope="session")
def file(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("pages") / "gate.html"
    write_page(data_of(folder), file)
    return file


def test_it_says_first_what_moved(file, opened):
    page = opened(file)
    assert page.locator("h1").inner_text() == "transformers==5.9.0 → transformers==5.23.0"
    assert "2 port_moved" in page.locator("#headline").inner_text()
    assert page.locator("#overview h2").first.inner_text() == "what moved (2)"
    first = page.locator("#overview tbody tr").first.inner_text()
    assert ("port_moved" in first, SITE in first) == (True, True)


def test_a_moved_cell_says_who_how_far_and_how_to_ask_again(file, opened):
    page = opened(file)
    page.keyboard.press("n")
    page.wait_for_selector("#cell-name")
    assert page.locator("#first-site").inner_text() == f"first divergence: {SITE}"
    assert page.locator("#who").inner_text().startswith("who moved: port · meaning")
    assert "✗ first" in page.locator("#map").inner_text()
    assert page.locator("#curve .scatterlayer .trace").count() == 2  # before and after
    command = page.locator("button.copy").first.get_attribute("data-copies")
    assert command.startswith('harness gate --baseline "transformers==5.9.0" --candidate ')
    assert command.endswith("--family gpt2 --variant default --mode hf_sdpa --dtype exact")


def test_rounding_has_its_mark_and_is_no_regression(tmp_path, opened):
    folder = tmp_path / "a-gate"
    cells = cells_of("hf_sdpa", dtypes=("float32",))
    record(folder / "baseline", cells)
    record(folder / "candidate", cells, port=rounded())
    sides = read_side(folder / "baseline"), read_side(folder / "candidate")
    write_gate(gate(*sides, [cell.id for cell in cells]), folder)
    write_page(data_of(folder), tmp_path / "gate.html")
    page = opened(tmp_path / "gate.html")
    assert "what moved (0)" in page.locator("#overview").inner_text()
    assert page.locator(".chip").inner_text().startswith("≈")


def test_a_gate_whose_sides_are_gone_still_has_its_table(folder, tmp_path, opened):
    (tmp_path / "gate.json").write_text((folder / "gate.json").read_text())
    write_page(data_of(tmp_path), tmp_path / "gate.html")
    page = opened(tmp_path / "gate.html")
    page.keyboard.press("n")
    page.wait_for_selector("#who")
    assert page.locator("#map").count() == 0


def test_axes_that_were_edited_in_a_gate_do_not_blame_its_sides(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "a-gate")
    before, gate_json = data_of(folder)["moves"], read_sealed(folder / "gate.json")
    for cell in gate_json["cells"]:
        cell["variant"] = "another"
    write_sealed(other / "gate.json", gate_json)
    assert before == data_of(other)["moves"]
    assert SDPA[0].id in before


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 99}', "{"])
def test_what_is_no_gate_is_refused(text, tmp_path):
    (tmp_path / "gate.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"no gate|schema_version=99"):
        data_of(tmp_path)


def test_what_is_neither_run_nor_gate_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="is not a run"):
        data_of(tmp_path)
