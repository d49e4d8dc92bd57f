"""Checkpoints that do not fit their config are refused, and the tensor is named."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from harness.case import Case, Cell
from harness.errors import CheckpointError, Refused
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.checkpoints import synthetic
from harness.models.checkpoints.folder import open_folder
from harness.models.families import FAMILIES
from harness.models.ports import load_reference, loading


@pytest.fixture
def folder(tmp_path):
    built = synthetic.build("gpt2", "default", size="tiny")
    return shutil.copytree(built.path, tmp_path / "checkpoint")


def rewrite(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def cell_of(folder):
    return Cell(
        case=Case(family="gpt2", checkpoint=f"folder:{folder}"),
        loading_mode="bridge",
        dtype="float32",
    )


def load(folder):
    return load_reference(cell_of(folder), open_folder(folder))


def test_a_whole_folder_loads(folder):
    assert "logits" in load(folder).sites


def test_a_missing_tensor_is_named(folder):
    rewrite(folder, lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.bias"))
    with pytest.raises(CheckpointError, match=r"missing.*h\.1\.mlp\.c_fc\.bias"):
        load(folder)


def test_an_extra_tensor_is_named(folder):
    rewrite(
        folder,
        lambda tensors: tensors.update(
            {"transformer.h.9.ln_1.bias": tensors["transformer.ln_f.bias"].clone()}
        ),
    )
    with pytest.raises(CheckpointError, match=r"unexpected.*h\.9\.ln_1\.bias"):
        load(folder)


def test_a_tensor_of_another_shape_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_inner": 48}))
    with pytest.raises(CheckpointError, match=r"c_fc"):
        load(folder)


def test_a_checkpoint_that_does_not_fit_makes_its_cell_an_error(folder):
    rewrite(folder, lambda tensors: tensors.pop("transformer.ln_f.bias"))
    result = measure_cell(cell_of(folder), run_id="x", references=References(), plan=Plan())
    assert result.verdict == "error"
    assert "transformer.ln_f.bias" in result.row["reason"]


def test_a_field_that_this_release_does_not_know_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_inner": 48, "n_imagined": 3}))
    with pytest.raises(CheckpointError, match=r"GPT2Config of transformers .* n_imagined"):
        load(folder)


def test_a_model_that_this_release_lacks_is_refused_in_a_sentence(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "of_next_year"}))
    with pytest.raises(Refused, match=r"^transformers [\d.]+ has no of_next_year$"):
        load(folder)


def test_a_config_that_cannot_be_read_is_told_with_the_release(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_layer": "three"}))
    with pytest.raises(CheckpointError, match=r"cannot read its config\.json"):
        load(folder)


def test_many_wrong_tensors_are_counted_and_the_first_are_named(folder):
    rewrite(
        folder,
        lambda tensors: [tensors.pop(name) for name in list(tensors) if ".h.1." in name],
    )
    with pytest.raises(CheckpointError, match=r"h\.1\.attn\.c_attn.* and 6 more"):
        load(folder)


@pytest.mark.parametrize(
    ("release", "spelled"),
    [("4.39.3", "torch_dtype"), ("4.55.4", "torch_dtype"), ("4.56.0", "dtype")],
)
def test_each_release_is_told_the_dtype_by_its_own_name(release, spelled, monkeypatch):
    monkeypatch.setattr(loading.transformers, "__version__", release)
    arguments = loading.spelled_for_this_release("exact", transformers.GPT2Config())
    assert arguments == {spelled: torch.float64}


@pytest.fixture
def model():
    """Give a model with a computed and a saved buffer, and two names for one parameter."""
    model = torch.nn.Module()
    model.attn = torch.nn.Linear(2, 2)
    model.attn.register_buffer("masked_bias", torch.tensor(-1e9), persistent=False)
    model.attn.register_buffer("correction", torch.zeros(2))
    model.head, model.embed = torch.nn.Linear(2, 2, bias=False), torch.nn.Embedding(2, 2)
    model.head.weight = model.embed.weight
    return model


NOT_HELD_AGAINST_A_CHECKPOINT = {
    "a missing buffer": ("missing_keys", "attn.masked_bias"),
    "a parameter that stands there by its other name": ("missing_keys", "head.weight"),
    "a buffer that an older release saved": ("unexpected_keys", "layers.9.attn.masked_bias"),
}
HELD_AGAINST_A_CHECKPOINT = {
    "a missing parameter": ("missing_keys", ["attn.weight"]),
    "a parameter missing by both its names": ("missing_keys", ["embed.weight", "head.weight"]),
    "a parameter too many": ("unexpected_keys", ["attn.more"]),
    "a saved buffer under another name": ("unexpected_keys", ["layers.0.attn.correction"]),
    "a message": ("error_msgs", ["something else"]),
}


@pytest.mark.parametrize(
    ("kind", "name"), NOT_HELD_AGAINST_A_CHECKPOINT.values(), ids=NOT_HELD_AGAINST_A_CHECKPOINT
)
def test_what_a_report_of_transformers_4_names_for_no_fault(kind, name, model):
    assert loading.not_loaded(model, kind, [name]) == []


@pytest.mark.parametrize(
    ("kind", "names"), HELD_AGAINST_A_CHECKPOINT.values(), ids=HELD_AGAINST_A_CHECKPOINT
)
def test_what_a_report_names_for_a_fault(kind, names, model):
    assert loading.not_loaded(model, kind, names) == names


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_asked_for_is_the_one_that_runs(attention, folder):
    model = loading.load_model(
        FAMILIES["gpt2"],
        open_folder(folder),
        dtype="float32",
        device="cpu",
        attention=attention,
    )
    assert model.config._attn_implementation == attention
