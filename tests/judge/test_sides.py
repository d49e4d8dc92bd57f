import math

import pytest
from planting import PROMPTS, SDPA, SITE, breaking_off_in_exact, scaled

from harness.case import Case
from harness.errors import RunFolderError
from harness.judge.baseline import accept
from harness.judge.sides import case_id, case_key, read_side
from harness.measure.kernels import BUCKETS
from harness.record import SCHEMA_VERSION, write_json

EXACT, FLOAT32 = (cell.id for cell in SDPA)
CASE = ("gpt2", "default", "synthetic", "cpu")


def kept_prompts(side):
    return [row["prompt_id"] for row in side.prompts["gpt2-default"]]


@pytest.fixture(scope="session")
def accepted(recorded, tmp_path_factory):
    """Give the folder of a baseline made of a run in which nothing is planted."""
    into = tmp_path_factory.mktemp("baselines") / "default"
    accept(recorded(), into, reason="a test")
    return into


def test_a_run_is_read_by_cell_and_site(clean):
    assert list(clean.cells) == [EXACT, FLOAT32]
    assert clean.ports[EXACT][SITE]["relation"] == "equal"
    assert clean.references[CASE, "exact", "reference"][SITE, "equal"]["dtype"] == "exact"
    assert clean.references[CASE, "float32", "reference"].keys() == (
        clean.references[CASE, "exact", "reference"].keys()
    )


def test_the_sites_of_a_port_are_in_forward_order(clean):
    sites = list(clean.ports[EXACT])
    assert sites[0] == "embed"
    assert sites[-1] == "logits"
    assert sites.index("blocks.0.resid_post") < sites.index("blocks.1.attn.z") < sites.index(SITE)


def test_what_is_missing_is_none_and_no_number(clean, measured):
    assert clean.cells[EXACT]["first_site"] is None
    assert clean.ports[EXACT][SITE]["difference_sketch"] is None
    assert len(measured(port=scaled(1e-3)).ports[EXACT][SITE]["difference_sketch"]) == BUCKETS


def test_the_prompts_of_a_case_are_in_the_order_in_which_they_were_asked(clean):
    assert kept_prompts(clean) == [prompt.prompt_id for prompt in PROMPTS]


def test_a_cell_that_broke_off_lends_its_case_no_prompts(measured, clean):
    broken = measured(port=breaking_off_in_exact)
    assert broken.cells[EXACT]["verdict"] == "error"
    assert kept_prompts(broken) == kept_prompts(clean)


def test_a_baseline_has_the_prompts_of_a_cell_that_did_not_break_off(recorded, clean, tmp_path):
    accept(recorded(port=breaking_off_in_exact), tmp_path / "default", reason="a test")
    assert kept_prompts(read_side(tmp_path / "default")) == kept_prompts(clean)


def test_the_prompt_that_a_failing_cell_was_cut_down_to_is_kept(clean, measured):
    assert clean.smallest == {}
    smallest = measured(port=scaled(1e-3)).smallest
    assert {name: row["origin"] for name, row in smallest.items()} == {
        EXACT: "short",
        FLOAT32: "short",
    }


def test_a_baseline_is_read_as_the_run_that_it_was_made_of(accepted, clean):
    side = read_side(accepted)
    assert side.cells.keys() == clean.cells.keys()
    assert kept_prompts(side) == kept_prompts(clean)
    for cell, rows in clean.ports.items():
        assert {site: row["digest"] for site, row in side.ports[cell].items()} == {
            site: row["digest"] for site, row in rows.items()
        }


def test_a_side_is_called_as_one_says_or_by_its_folder(recorded):
    run = recorded()
    assert (read_side(run, name="candidate").name, read_side(run).name) == ("candidate", str(run))


def test_a_side_knows_the_packages_that_it_was_measured_with(clean, accepted):
    assert clean.packages.keys() >= {"torch", "transformers", "transformer-lens"}
    assert read_side(accepted).packages == clean.packages


def test_a_run_without_cells_is_refused(tmp_path):
    write_json(tmp_path / "run.json", {"schema_version": SCHEMA_VERSION, "packages": {}})
    with pytest.raises(RunFolderError, match="no cell of it finished"):
        read_side(tmp_path)


def test_a_folder_that_is_neither_run_nor_baseline_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="is not a run"):
        read_side(tmp_path)


def test_the_key_of_a_case_has_its_device():
    row = {"family": "gpt2", "variant": "default", "checkpoint": "synthetic", "device": "cuda"}
    assert case_key(row) == ("gpt2", "default", "synthetic", "cuda")
    assert case_id(row) == Case(family="gpt2").id


def test_numbers_that_are_infinite_stay_so(measured):
    from planting import spoiled

    row = measured(port=spoiled(math.nan)).ports[EXACT][SITE]
    assert (row["rel_l2"], row["failed"]) == (math.inf, True)
