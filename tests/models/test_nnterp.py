import importlib.metadata
import sys

import pytest
import torch

from harness.case import Case, Cell, Prompt
from harness.errors import Refused, Unavailable
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.checkpoints import checkpoint_of
from harness.models.ports import load_port, nnterp
from harness.plugged import plugged_ports

INSTALLED = any(each.name == "nnterp" for each in importlib.metadata.distributions())
needs_nnterp = pytest.mark.skipif(
    not INSTALLED, reason=f"nnterp is NOT INSTALLED, its port is not tested: {nnterp.INSTALL}"
)
# Libraries below nnsight warn of themselves where they are imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def cell_of(family, dtype="exact", probe=None):
    return Cell(case=Case(family=family), loading_mode="nnterp", dtype=dtype, probe=probe)


def measured(cell):
    plan = Plan(drawn=0, shrink_seconds=0.0)
    return measure_cell(cell, run_id="x", references=References(), plan=plan)


def load(family):
    folder = checkpoint_of(Case(family=family)).path
    return nnterp.load(folder, family=family, dtype=torch.float32, device="cpu")


def test_it_is_plugged_in_as_any_other_package_plugs_in_its_own():
    assert plugged_ports()["nnterp"].distribution == "model-port-harness"


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    def missing(_):
        raise nnterp.PackageNotFoundError

    monkeypatch.setattr(nnterp, "version", missing)
    with pytest.raises(Unavailable, match=r"pip install 'model-port-harness\[nnterp\]'"):
        load("gpt2")
    assert measured(cell_of("gpt2")).verdict == "unavailable"


def test_beside_an_nnsight_that_it_does_not_import_with_it_says_so(monkeypatch):
    monkeypatch.setattr(
        nnterp, "version", lambda name: {"nnterp": "1.3.0", "nnsight": "0.8.1"}[name]
    )
    monkeypatch.setitem(sys.modules, "nnterp", None)
    with pytest.raises(Unavailable, match=r"nnterp 1.3.0 does not import beside nnsight 0.8.1"):
        load("gpt2")


@needs_nnterp
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", ["exact", "float32"])
def test_it_gives_what_the_reference_gives_and_claims_none_of_it(family, dtype):
    result = measured(cell_of(family, dtype))
    assert result.verdict == "pass", result.row["reason"]
    compared = {row["site"] for row in result.deltas}
    assert {"embed", "blocks.1.resid_pre", "blocks.1.attn_out", "blocks.1.mlp_out"} <= compared
    assert {"blocks.2.resid_post", "ln_final.out", "logits"} <= compared
    assert ("blocks.0.attn.pattern" in compared) == (family == "llama")
    assert result.row["sites_passed_through"] == result.row["sites_compared"] > 0


@needs_nnterp
def test_a_fault_in_its_model_is_found_at_its_site():
    def load_faulty(cell, checkpoint):
        runner = load_port(cell, checkpoint)
        inside = runner.port.model._model
        inside.get_submodule("transformer.h.1.mlp.c_proj").bias.data[3] += 1e-9
        return runner

    plan = Plan(drawn=0, shrink_seconds=0.0)
    result = measure_cell(
        cell_of("gpt2"), run_id="x", references=References(), plan=plan, load=load_faulty
    )
    assert (result.verdict, result.row["first_site"]) == ("fail", "blocks.1.mlp_out")


@needs_nnterp
@pytest.mark.parametrize("family", ["gemma2", "bloom", "mpt", "granite"])
def test_a_name_of_another_meaning_would_differ_and_is_not_given(family, monkeypatch):
    left_out = nnterp._OF_ANOTHER_MEANING[family]
    assert not any(site.endswith(left_out) for site in load(family).sites)
    monkeypatch.setitem(nnterp._OF_ANOTHER_MEANING, family, ())
    result = measured(cell_of(family))
    failing = {row["site"].split(".")[-1] for row in result.deltas if row["verdict"] == "fail"}
    assert failing == set(left_out)


@needs_nnterp
@pytest.mark.parametrize(
    ("family", "told"),
    [("phi", "Could not find ln_final"), ("t5", "and t5 is none"), ("chatglm", "none for chatglm")],
)
def test_what_it_does_not_do_is_refused_in_words(family, told):
    with pytest.raises(Refused, match=told):
        load(family)


@needs_nnterp
@pytest.mark.parametrize("probe", ["causality", "repeatability", "residual"])
def test_it_keeps_what_it_owes(probe):
    assert measured(cell_of("llama", "float32", probe)).verdict == "pass"


@needs_nnterp
def test_a_run_leaves_no_mode_behind():
    runner = load_port(cell_of("gpt2", "float32"), checkpoint_of(Case(family="gpt2")))
    prompt = Prompt.unpadded(((1, 2, 3),), origin="x")
    first, again = (runner.run(prompt, runner.sites) for _ in range(2))
    assert all(torch.equal(first[site], again[site]) for site in runner.sites)
    assert tuple(runner.run(prompt, ["logits"])) == ("logits",)
    assert torch.get_default_dtype() == torch.float32
