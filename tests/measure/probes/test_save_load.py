import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from harness.case import Case, Cell
from harness.measure.probes import save_load
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell

SAVED = "saved and loaded"
OLDER = "saved by transformers 4.0.0"


@pytest.fixture(scope="module")
def references():
    return References()


@pytest.fixture
def spoilt(monkeypatch):
    """Give a function that plants a change of the saved folder."""
    save = PreTrainedModel.save_pretrained

    def plant(spoil):
        def save_and_spoil(self, folder, *more, **named):
            save(self, folder, *more, **named)
            spoil(folder)

        monkeypatch.setattr(PreTrainedModel, "save_pretrained", save_and_spoil)

    return plant


def asked(references, family="gpt2", dtype="float32", exchange=None):
    cell = Cell(case=Case(family=family), loading_mode="hf_eager", dtype=dtype, probe="save_load")
    plan = Plan(drawn=0, shrink_seconds=0, exchange=exchange)
    return measure_cell(cell, run_id="a-run", references=references, plan=plan)


def failing(result):
    """Give the sites at which each check failed, by the check."""
    found = {}
    for row in result.deltas:
        if row["verdict"] == "fail":
            found.setdefault(row["check"], []).append(row["site"])
    return found


def tensors_changed(change):
    """Give what changes the tensors of a saved folder."""

    def spoil(folder):
        file = folder / "model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return spoil


def test_a_model_that_does_not_know_what_it_has_saved_is_no_refusal(spoilt, references):
    def renamed(folder):
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "unheard_of"}))

    spoilt(renamed)
    found = asked(references)
    assert found.verdict == "error"
    assert "what was saved is not loaded again" in found.row["reason"]
    assert "unheard_of" in found.row["reason"]


@pytest.mark.parametrize("family", ["gpt2", "llama", "mixtral", "t5"])
@pytest.mark.parametrize("dtype", ["exact", "float32"])
def test_what_is_saved_comes_back(family, dtype, references):
    result = asked(references, family, dtype)
    assert (result.verdict, result.row["reason"]) == ("pass", None)
    assert {"tied", "weights", "config", "logits"} <= {row["site"] for row in result.deltas}


def test_a_bit_that_changes_on_saving_is_named_by_its_tensor(references, spoilt):
    def move(tensors):
        tensors["transformer.h.1.mlp.c_fc.bias"][3] += 1e-6

    spoilt(tensors_changed(move))
    result = asked(references)
    assert result.verdict == "fail"
    assert "weights.transformer.h.1.mlp.c_fc.bias" in failing(result)[SAVED]
    assert "tied" not in failing(result)[SAVED]


def test_weights_that_are_untied_on_loading_are_told(references, monkeypatch):
    load = save_load.__globals__["load_port"]

    def untied(cell, checkpoint):
        runner = load(cell, checkpoint)
        head = runner.model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        return runner

    # The module is hidden in the package behind the function of its name.
    monkeypatch.setitem(save_load.__globals__, "load_port", untied)
    assert failing(asked(references)) == {SAVED: ["tied"]}


def test_a_tensor_that_is_lost_is_an_error_that_names_it(references, spoilt):
    spoilt(tensors_changed(lambda tensors: tensors.pop("transformer.h.0.ln_1.weight")))
    result = asked(references)
    assert result.verdict == "error"
    assert "missing_keys: transformer.h.0.ln_1.weight" in result.row["reason"]


def test_a_config_that_says_otherwise_is_named_by_its_field(references, spoilt):
    def spoil(folder):
        file = folder / "config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps({**config, "layer_norm_epsilon": 0.3}))

    spoilt(spoil)
    found = failing(asked(references))[SAVED]
    assert found[0] == "config.layer_norm_epsilon"
    assert "blocks.0.ln1.out" in found


def test_what_an_older_release_left_must_be_loaded_and_what_a_newer_one_left_need_not(
    references, tmp_path
):
    assert asked(references, exchange=tmp_path).verdict == "pass"
    (own,) = (tmp_path / "gpt2-default.hf_eager.float32.save_load").iterdir()
    own.rename(own.with_name("4.0.0"))
    result = asked(references, exchange=tmp_path)
    assert result.verdict == "pass"
    assert {row["check"] for row in result.deltas} == {SAVED, OLDER}

    (own.with_name("99.0") / "broken").mkdir(parents=True)
    assert asked(references, exchange=tmp_path).verdict == "pass"
    file = own.with_name("4.0.0") / "model.safetensors"
    save_file({name: t + 0.01 for name, t in load_file(file).items()}, file, {"format": "pt"})
    assert set(failing(asked(references, exchange=tmp_path))) == {OLDER}
