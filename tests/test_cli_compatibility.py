"""`harness compatibility`: a whole run becomes a page; any other is refused, and the page stays."""

import importlib.metadata
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from harness import cli
from harness.case import SHRUNK, Case, Cell
from harness.models import architectures
from harness.models.architectures import Architecture
from harness.record import COLUMNS, SCHEMA_VERSION, write_json, write_part
from harness.selection import Selection, cells_of, probe_cells_of

PAGE = Path("docs/compatibility.md")
OLD = "as it was\n"
LLAMA = Case(family="llama", checkpoint=SHRUNK)
BERT = Case(family="bert", variant="masked", checkpoint=SHRUNK)
EXACT = {"profile": ["breadth"], "dtype": ["exact"]}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Stand in a repository that has a page, with a transformers of two architectures."""
    found = (
        Architecture(
            model_type="bert", kind="masked", variant="masked", class_name="BertForMaskedLM"
        ),
        Architecture(
            model_type="llama", kind="causal", variant="default", class_name="LlamaForCausalLM"
        ),
    )
    monkeypatch.setattr(architectures, "architectures", lambda: found)
    # Of flipped configs one test speaks.
    monkeypatch.setattr(Architecture, "variants", property(lambda each: (each.variant,)))
    monkeypatch.chdir(tmp_path)
    PAGE.parent.mkdir()
    PAGE.write_text(OLD)
    return tmp_path


def asked(*cases):
    """Give the cells that the profile asks of cases in exact mode."""
    selection = Selection(dtype=("exact",), profile=("breadth",))
    return (*cells_of(cases, selection), *probe_cells_of(cases, selection))


def row_of(cell, **values):
    plain = {pa.string(): "", pa.int64(): 30, pa.float64(): 1e-16}
    row = {
        column.name: None if column.missing else plain.get(column.type, "")
        for column in COLUMNS["cells"]
    }
    axes = {
        "run_id": "a-run",
        "cell_id": cell.id,
        "family": cell.case.family,
        "variant": cell.case.variant,
        "checkpoint": cell.case.checkpoint,
        "loading_mode": cell.loading_mode,
        "dtype": cell.dtype,
        "device": cell.device,
        "probe": cell.probe,
    }
    numbers = {"sites_passed_through": 10, "sites_missing": 0, "worst_rel_l2": 1e-16}
    return {**row, **axes, **numbers, "verdict": "pass", **values}


def write_run(cells, selection=EXACT, *, plan=None, packages=None, **values):
    """Write a run of these cells below reports/runs, and point `latest` to it."""
    run = Path("reports/runs/a-run")
    installed = {"transformers": importlib.metadata.version("transformers"), "torch": "2.13.0"}
    described = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.name,
        "selection": selection,
        "plan": {"drawn": 3, "seed": 0} if plan is None else plan,
        "packages": installed if packages is None else packages,
        "started": "2026-11-25T18:34:14+00:00",
        "argv": ["cases", f"--out={Path.cwd()}"],
    }
    write_json(run / "run.json", described)
    for cell in cells:
        write_part(run, "cells", cell.id, [row_of(cell, **values)])
    Path("reports/runs/latest").symlink_to(run.name, target_is_directory=True)
    return run


@pytest.fixture
def call(monkeypatch, capsys):
    """Give a function that calls the command: code and words."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", "compatibility", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return left.value.code, said.out + said.err

    return run


@pytest.fixture
def refused(call):
    """Give a function that calls the command, sees it refuse, and gives what it said."""

    def run(*arguments):
        code, said = call(*arguments)
        assert code == 2
        assert PAGE.read_text() == OLD
        assert [path.name for path in PAGE.parent.iterdir()] == [PAGE.name]
        return said

    return run


def test_a_whole_run_is_written_over_the_old_page(call):
    write_run(asked(LLAMA, BERT))
    code, said = call()
    assert code == 0
    assert f"written: {PAGE}, of 28 cells of a-run" in said
    page = PAGE.read_text()
    assert "Written by `harness compatibility a-run`; do not edit it." in page
    assert "measured by `harness run --dtype exact --profile breadth`." in page
    assert "part only" not in page
    assert [path.name for path in PAGE.parent.iterdir()] == [PAGE.name]


def test_the_page_names_no_folder_of_the_machine(call, here):
    write_run(asked(LLAMA, BERT), reason=f"no {here}/x", verdict="error")
    assert call()[0] == 0
    page = PAGE.read_text()
    assert "`no …/x`" in page
    assert str(here) not in page


def test_a_run_that_lacks_a_cell_is_refused_and_says_how_to_finish_it(refused):
    *cells, last = asked(LLAMA, BERT)
    write_run(cells)
    said = refused()
    assert "a-run is not whole: 1 cells that it was asked for are not there, such as" in said
    assert last.id in said
    assert "next:    harness run --resume a-run" in said


def test_a_run_without_an_architecture_is_refused(refused):
    write_run(asked(LLAMA))
    assert "14 cells that it was asked for are not there, such as bert-masked@shrunk" in refused()


def test_a_run_that_lacks_a_dtype_is_refused(refused):
    write_run(asked(LLAMA, BERT), {"profile": ["breadth"]})
    assert "not whole: 6 cells" in refused()


def test_a_run_without_rows_is_refused(refused):
    write_run([])
    assert "has no cells: no cell of it finished; run it again, or --resume it" in refused()


@pytest.mark.parametrize("profile", [[], ["default"], ["default", "breadth"]])
def test_a_run_of_another_profile_is_refused(refused, profile):
    write_run(asked(LLAMA, BERT), {**EXACT, "profile": profile} if profile else {})
    said = refused()
    assert "a-run is no run of the profile breadth" in said
    assert "next:    harness run --profile breadth" in said


def test_a_run_whose_relations_were_forced_is_refused(refused):
    write_run(asked(LLAMA, BERT), plan={"relation": "equal"})
    assert "forced" in refused()


def test_a_run_that_measured_nothing_is_refused(refused):
    write_run(asked(LLAMA, BERT), verdict="unavailable", reason="no network")
    said = refused()
    assert "measured nothing: each of its 28 cells was unavailable" in said
    assert "no network" in said


def test_a_run_of_another_transformers_is_refused(refused):
    write_run(asked(LLAMA, BERT), packages={"transformers": "4.40.0", "torch": "2.13.0"})
    said = refused()
    assert "a-run was measured with transformers 4.40.0, and here is" in said
    assert "install transformers==4.40.0" in said


@pytest.mark.parametrize("case", [Case(family="gpt9", checkpoint=SHRUNK), Case(family="llama")])
def test_a_run_with_cells_of_no_architecture_of_the_profile_is_refused(refused, case):
    strange = Cell(case=case, loading_mode="bridge", dtype="exact")
    write_run([*asked(LLAMA, BERT), strange])
    assert f"1 cells of no architecture of the profile, such as {strange.id}" in refused()


def test_there_is_no_run_yet(refused):
    assert "latest is not a run; below reports/runs: none yet" in refused()


def test_a_run_of_another_schema_is_refused(refused):
    run = write_run(asked(LLAMA, BERT))
    described = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**described, "schema_version": SCHEMA_VERSION - 1})
    assert f"but should be {SCHEMA_VERSION}" in refused()


def test_a_part_is_not_written_where_the_whole_belongs(refused):
    write_run(asked(LLAMA), {**EXACT, "family": ["llama"]})
    said = refused()
    assert "the run asked for a part alone (--family llama)" in said
    assert "--out FILE" in said


def test_a_part_is_written_elsewhere_and_says_so(call):
    write_run(asked(LLAMA), {**EXACT, "family": ["llama"]})
    code, _ = call("a-run", "--out", "docs/part.md")
    assert code == 0
    page = Path("docs/part.md").read_text()
    assert "**This is a part only (family llama): 1 of 2 architectures.**" in page
    assert "Written by `harness compatibility a-run --out docs/part.md`" in page
    assert "`harness run --family llama --dtype exact --profile breadth`" in page
    assert PAGE.read_text() == OLD


def test_a_part_that_lacks_a_cell_is_refused_too(refused):
    write_run(asked(LLAMA)[1:], {**EXACT, "family": ["llama"]})
    assert "not whole: 1 cells" in refused("--out", "part.md")
    assert not Path("part.md").exists()


def test_a_run_without_exact_mode_is_a_part(refused):
    write_run(asked(LLAMA, BERT), {"profile": ["breadth"], "dtype": ["float32"]})
    assert "a part alone (--dtype float32)" in refused()


def test_prompts_that_are_not_the_usual_ones_stand_in_the_command(call):
    write_run(asked(LLAMA, BERT), plan={"drawn": 9, "seed": 7})
    assert call()[0] == 0
    told = "`harness run --dtype exact --profile breadth --prompts 9 --prompt-seed 7`"
    assert told in PAGE.read_text()


def test_a_page_outside_of_the_repository_links_to_nothing_and_names_no_place(
    call, tmp_path_factory
):
    link = "docs/findings/x.md"
    write_run(asked(LLAMA, BERT), verdict="known", reason="so", limitation=link)
    out = tmp_path_factory.mktemp("elsewhere") / "page.md"
    assert call("--out", str(out))[0] == 0
    assert f"known (`{link}`)" in out.read_text()
    assert str(out.parent) not in out.read_text()
    assert call()[0] == 0
    assert "[known](findings/x.md)" in PAGE.read_text()
    assert call("--out", "page.md")[0] == 0
    assert "[known](docs/findings/x.md)" in Path("page.md").read_text()
    assert "`harness compatibility a-run --out page.md`" in Path("page.md").read_text()


def test_a_folder_is_no_place_for_the_page(refused):
    write_run(asked(LLAMA, BERT))
    assert "--out docs is a folder" in refused("--out", "docs")


def test_flipped_configs_are_asked_for_and_counted_apart(call, monkeypatch):
    both = property(lambda each: (each.variant, each.off_default))
    monkeypatch.setattr(Architecture, "variants", both)
    flipped = (
        Case(family="llama", variant="off_default", checkpoint=SHRUNK),
        Case(family="bert", variant="masked_off_default", checkpoint=SHRUNK),
    )
    write_run(asked(LLAMA, BERT, *flipped))
    assert call()[0] == 0
    page = PAGE.read_text()
    (counted,) = (line for line in page.splitlines() if line.startswith("| references measured"))
    assert [word.strip() for word in counted.split("|")[2:-1]] == ["1", "0", "1", "2", "2"]
    assert "causal, off_default" in page
