"""ChatGLM3 converted to GLM: bit for bit where it can be, refused where it cannot."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from harness.case import Case, Cell, Prompt
from harness.cli import app
from harness.errors import CheckpointError, UsageError
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models import conversion
from harness.models.checkpoints import checkpoint_of
from harness.models.checkpoints.folder import open_folder
from harness.models.conversion import as_glm, convert_folder, glm_config, glm_tensors
from harness.models.families import FAMILIES
from harness.models.ports import load_port, load_reference

VARIANTS = FAMILIES["chatglm"].variant_names
TOKENS = Prompt.unpadded(((1, 5, 9, 3, 8), (2, 4, 6, 8, 1), (60, 3, 3, 3, 7)), origin="test")


def cell_of(variant="default", *, mode="hf_sdpa", dtype="float32", probe=None):
    case = Case(family="chatglm", variant=variant)
    return Cell(case=case, loading_mode=mode, dtype=dtype, probe=probe)


def logits_of(runner):
    return runner.run(TOKENS, ("logits",))["logits"]


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "chatglm"
    shutil.copytree(checkpoint_of(Case(family="chatglm")).path, copy)
    return copy


def rewritten(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_logits_are_the_same_to_the_last_bit(variant):
    cell = cell_of(variant)
    checkpoint = checkpoint_of(cell.case)
    ours, theirs = load_port(cell, checkpoint), load_reference(cell, checkpoint)
    assert torch.equal(logits_of(ours), logits_of(theirs))
    assert type(ours.model).__name__ == "GlmForCausalLM"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_site_of_a_prompt_of_several_tokens_is_the_same_to_the_last_bit(variant):
    plan = Plan(prompts=(TOKENS,), shrink_seconds=0.0)
    found = measure_cell(cell_of(variant), run_id="r", references=References(), plan=plan)
    assert (found.verdict, found.row["sites_missing"]) == ("pass", 0)
    assert found.row["sites_passed_through"] == 0
    assert {row["max_abs"] for row in found.deltas} == {0.0}


def test_what_is_converted_by_command_is_what_a_port_loads(folder, tmp_path):
    ran = CliRunner().invoke(app, ["convert", "chatglm", str(folder), str(tmp_path / "glm")])
    assert ran.exit_code == 0, ran.output
    made = open_folder(tmp_path / "glm")
    assert made.digest == as_glm(open_folder(folder)).digest
    assert (tmp_path / "glm" / "tokenizer.json").is_file()


def test_shards_are_converted_one_by_one(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    for place in range(2):
        part = {name: tensors[name] for name in names[place::2]}
        save_file(part, folder / f"model-{place}.safetensors")
    convert_folder(folder, tmp_path / "glm")
    index = json.loads((tmp_path / "glm" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {"model-0.safetensors", "model-1.safetensors"}
    open_folder(tmp_path / "glm")


REFUSED = {
    "add_bias_linear": (True, "no biases"),
    "rmsnorm": (False, "RMSNorms"),
    "post_layer_norm": (False, "final norm"),
    "apply_residual_connection_post_layernorm": (True, "stream itself"),
    "pre_seq_len": (8, "prefix"),
    "quantization_bit": (4, "quantised"),
    "rope_ratio": (16, "positions"),
    "some_new_field": (1, "does not know"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_field_that_glm_cannot_represent_is_refused_with_the_reason(name, folder, tmp_path):
    value, reason = REFUSED[name]
    with pytest.raises(CheckpointError, match=f"{name}={value!r}.*{reason}"):
        convert_folder(rewritten(folder, **{name: value}), tmp_path / "glm")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_field_that_is_missing_is_refused_and_another_model_too(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["layernorm_epsilon"]
    with pytest.raises(CheckpointError, match="layernorm_epsilon is missing"):
        glm_config(config)
    with pytest.raises(CheckpointError, match="model_type='llama'"):
        glm_config({**config, "model_type": "llama"})


def test_a_tensor_without_a_place_is_refused_and_a_lost_one_too(folder, tmp_path):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "transformer.encoder.layers.0.mlp.new": torch.ones(1)}, file)
    with pytest.raises(CheckpointError, match=r"layers\.0\.mlp\.new has no place"):
        convert_folder(folder, tmp_path / "glm")
    del tensors["transformer.output_layer.weight"]
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight missing or left over"):
        convert_folder(folder, tmp_path / "glm")


def test_a_rotary_buffer_is_dropped(folder):
    config = json.loads((folder / "config.json").read_text())
    assert glm_tensors({"transformer.rotary_pos_emb.inv_freq": torch.ones(2)}, config) == {}


def test_a_folder_that_is_there_is_not_written_to(folder):
    with pytest.raises(UsageError, match="is there already"):
        convert_folder(folder, folder)


def config_changed(**changes):
    def plant(monkeypatch):
        made = conversion.glm_config
        monkeypatch.setattr(conversion, "glm_config", lambda config: {**made(config), **changes})

    return plant


def tensors_changed(change):
    def plant(monkeypatch):
        made = conversion.glm_tensors

        def changed(*arguments):
            return {name: change(value, name) for name, value in made(*arguments).items()}

        monkeypatch.setattr(conversion, "glm_tensors", changed)

    return plant


def gate_and_up_swapped(tensor, name):
    return torch.cat(tensor.chunk(2)[::-1]) if name.endswith("gate_up_proj.weight") else tensor


def qkv_bias_dropped(tensor, name):
    return torch.zeros_like(tensor) if name.endswith("_proj.bias") else tensor


MUTATIONS = {
    "partial rotary 1.0": (config_changed(partial_rotary_factor=1.0), "blocks.0.attn.rot_q"),
    "eps as GLM has it": (config_changed(rms_norm_eps=1.5625e-07), "blocks.0.ln1.out"),
    "another rotary base": (config_changed(rope_theta=1e6), "blocks.0.attn.rot_q"),
    "gate and up swapped": (tensors_changed(gate_and_up_swapped), "blocks.0.mlp.pre"),
    "biases of q, k and v dropped": (tensors_changed(qkv_bias_dropped), "blocks.0.attn.q"),
}


@pytest.mark.parametrize("mode", ["hf_sdpa", "bridge"])
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_of_the_conversion_is_named_at_its_site(name, mode, monkeypatch, tmp_path):
    plant, site = MUTATIONS[name]
    plant(monkeypatch)

    def load(cell, checkpoint):
        convert_folder(checkpoint.path, tmp_path / "glm")
        return load_port(cell, open_folder(tmp_path / "glm"))

    found = measure_cell(
        cell_of(mode=mode, dtype="exact"),
        run_id="r",
        references=References(),
        plan=Plan(drawn=0, shrink_seconds=0.0),
        load=load,
    )
    assert (found.verdict, found.row["first_site"]) == ("fail", site)
