"""Checkpoints that do not fit their config are refused, and the tensor is named."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from harness.case import Case, Cell
from harness.errors import CheckpointError
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.checkpoints import synthetic
from harness.models.checkpoints.folder import open_folder
from harness.models.ports import load_reference


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
