"""`harness shrink`: a tiny twin of a user's model, whole or not at all."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import transformers
from safetensors.torch import load_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from harness import cli
from harness.errors import CheckpointError
from harness.models.architectures import automatic
from harness.models.checkpoints import hub, shrunk, twin
from harness.models.checkpoints.folder import open_folder
from harness.models.ports.loading import load_model
from harness.models.shrinking import quiet, run_once
from harness.record import read_cells

COMMAND = Path(sys.executable).with_name("harness")
COMMIT = "4e20de362430cd3b72f300e6b0f18e50e7166e08"

# As it is published: meta-llama/Llama-3.2-1B.
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
}

# An architecture that no library has: one gated layer over a running mean of the past.
OWN = """
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class MeanConfig(PretrainedConfig):
    model_type = "running-mean"

    def __init__(self, vocab_size=5000, hidden_size=640, num_layers=9, gate="sigmoid", **others):
        self.vocab_size, self.hidden_size, self.num_layers = vocab_size, hidden_size, num_layers
        self.gate = gate
        super().__init__(**others)


class MeanLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.mix = nn.Linear(config.hidden_size, config.hidden_size)
        self.gate = getattr(torch, config.gate)

    def forward(self, x):
        counted = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
        return x + self.gate(self.mix(self.norm(x))) * (x.cumsum(1) / counted)


class MeanForCausalLM(PreTrainedModel):
    config_class = MeanConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(MeanLayer(config) for _ in range(config.num_layers))
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, **_):
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        return CausalLMOutput(logits=self.head(x))


AutoConfig.register("running-mean", MeanConfig)
AutoModelForCausalLM.register(MeanConfig, MeanForCausalLM)
"""


@pytest.fixture
def call(monkeypatch, capfd, tmp_path):
    """Give a function that calls the command in an empty folder: exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", "shrink", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capfd.readouterr()
        return left.value.code or 0, said.out, said.err

    return run


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """Write the module of one's own; forget what it registers afterwards."""
    name = "model_of_ones_own"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    models = transformers.AutoModelForCausalLM._model_mapping._extra_content
    yield name
    sys.modules.pop(name, None)
    CONFIG_MAPPING._extra_content.pop("running-mean", None)
    for config in [config for config in models if config.model_type == "running-mean"]:
        del models[config]


def folder_with(config, folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def loaded(folder, model_type="llama"):
    """Load a twin as the harness does, with no tensor missing or extra."""
    record = automatic(model_type, "AutoModelForCausalLM")
    with quiet():
        return load_model(
            record, open_folder(folder), dtype="float32", device="cpu", attention="eager"
        )


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_published_config_keeps_what_is_no_size_and_becomes_a_twin_that_runs(call, tmp_path):
    code, said, _ = call(folder_with(LLAMA, tmp_path / "whole"), "twin")
    assert code == 0
    config = json.loads((tmp_path / "twin" / "config.json").read_text())
    rope = config["rope_parameters"]
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("llama3", 32.0, 500000.0)
    kept = ("hidden_act", "rms_norm_eps", "tie_word_embeddings", "mlp_bias", "architectures")
    assert {name: config[name] for name in kept} == {name: LLAMA[name] for name in kept}
    assert (config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]) == (32, 2, 96)
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    run_once(loaded(tmp_path / "twin"))
    assert left_in(tmp_path) == ["twin", "whole"]
    assert all(words in said for words in ("LlamaForCausalLM", "16 ", "18,592", "11 fields"))
    assert said.endswith(
        "next:    harness measure current --checkpoint folder:twin --family llama\n"
    )


def test_sizes_that_config_json_does_not_state_become_small_too(call, tmp_path):
    folder = folder_with({"model_type": "gpt2"}, tmp_path / "whole")
    assert call(folder, "twin")[0] == 0
    config = json.loads((tmp_path / "twin" / "config.json").read_text())
    assert (config["n_embd"], config["n_layer"], config["n_positions"]) == (32, 2, 24)


def test_a_model_type_becomes_a_twin(call, tmp_path):
    code, said, _ = call("gpt2", "new/twin")
    assert (code, "the model type gpt2 of transformers" in said) == (0, True)
    run_once(loaded(tmp_path / "new/twin", "gpt2"))


def test_the_kind_can_be_asked_for(call, tmp_path):
    assert call("bert", "twin", "--as", "masked")[0] == 0
    config = json.loads((tmp_path / "twin" / "config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"]


def test_an_empty_folder_may_be_there(call, tmp_path):
    (tmp_path / "twin").mkdir()
    assert call("gpt2", "twin")[0] == 0
    assert "config.json" in left_in(tmp_path / "twin")


def test_an_architecture_of_ones_own_becomes_a_twin(call, tmp_path, registered):
    config = {"model_type": "running-mean", "architectures": ["MeanForCausalLM"], "gate": "tanh"}
    folder = folder_with(config, tmp_path / "whole")
    code, said, _ = call(folder, "twin", "--register", registered)
    assert (code, "MeanForCausalLM" in said) == (0, True)
    model = loaded(tmp_path / "twin", "running-mean")
    assert (model.config.gate, model.config.hidden_size, len(model.layers)) == ("tanh", 32, 2)
    run_once(model)
    assert call("running-mean", "again")[0] == 0, "its type is known by now"


def test_it_works_in_a_process_of_its_own(tmp_path, registered):
    command = [COMMAND, "shrink", "running-mean", "twin", "--register", registered]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert load_file(tmp_path / "twin" / "model.safetensors")


def test_a_folder_named_like_a_type_wins_if_it_has_a_config_and_it_is_said(call, tmp_path):
    folder_with({"model_type": "gpt2"}, tmp_path / "llama")
    code, said, _ = call("llama", "twin")
    assert (code, "llama/config.json (the folder, not the model type" in said) == (0, True)
    assert "GPT2LMHeadModel" in said


def test_a_folder_named_like_a_type_without_a_config_is_not_meant_and_it_is_said(call, tmp_path):
    (tmp_path / "gpt2").mkdir()
    code, said, _ = call("gpt2", "twin")
    assert (code, "(the folder of this name has no config.json)" in said) == (0, True)


def test_only_the_config_of_a_hub_model_is_fetched(call, tmp_path, monkeypatch):
    whole = folder_with(LLAMA, tmp_path / "snapshots" / COMMIT)

    def download(repo_id, file, *, revision, endpoint):
        assert (repo_id, file, revision, endpoint) == ("some/llama", "config.json", COMMIT, "x://y")
        return str(whole / file)

    monkeypatch.setenv("HF_ENDPOINT", "x://y")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    code, said, _ = call(f"some/llama@{COMMIT}", "twin")
    assert (code, f"config.json of some/llama@{COMMIT}" in said) == (0, True)
    assert (tmp_path / "twin" / "model.safetensors").is_file()


def test_a_hub_that_cannot_be_reached_is_one_sentence(call, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody answers
    monkeypatch.setattr(time, "sleep", lambda _: None)
    code, _, said = call("some/llama", "twin")
    assert (code, "hub:some/llama: the hub does not give it" in said) == (2, True)
    assert not (tmp_path / "twin").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lama", "twin"), "unknown model type 'lama'; did you mean 'llama'? allowed: "),
        (("vit", "twin"), "unknown model type 'vit'"),
        (("empty", "twin"), "empty: no config.json in it"),
        (("./nowhere", "twin"), "no such folder"),
        (("llama", "full"), "full is there already, and not empty"),
        (("llama", "full/file"), "full/file is there already"),
        (("llama", "twin", "--as", "masked"), "not there as masked; allowed: causal (Llama"),
        (("some/llama@main", "twin"), "no full commit hash"),
        (("a..b/c", "twin"), "not an id of the hub"),
        (("llama", "twin", "--register", "no_such"), "--register no_such: cannot be imported"),
        (("llama", "twin", "--register", "broken"), "(RuntimeError: it is broken)"),
        (("code", "twin"), "is Python code that comes with the checkpoint (auto_map)"),
        (("strange", "twin"), "has no model type 'stranger'; next: name the module"),
        (("torn", "twin"), "torn/config.json: not a config"),
        (("list", "twin"), "list/config.json: not a config"),
        (("classes", "twin"), "found:   LlamaForTokenClassification"),
        (("images", "twin"), "has no text model of vit"),
        (("wrong", "twin"), "cannot read it"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(call, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of broken.py, beside it
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    (tmp_path / "broken.py").write_text("raise RuntimeError('it is broken')")
    auto_map = {"AutoModelForCausalLM": "modeling.Theirs"}
    folder_with({"model_type": "theirs", "auto_map": auto_map}, tmp_path / "code")
    folder_with({"model_type": "stranger"}, tmp_path / "strange")
    folder_with([1], tmp_path / "list")
    folder_with({**LLAMA, "architectures": ["LlamaForTokenClassification"]}, tmp_path / "classes")
    folder_with({"model_type": "vit"}, tmp_path / "images")
    folder_with({**LLAMA, "hidden_size": "wide"}, tmp_path / "wrong")
    (folder_with({}, tmp_path / "torn") / "config.json").write_text("{")
    before = left_in(tmp_path)
    code, _, said = call(*arguments)
    assert (code, words in said) == (2, True), said
    assert "Traceback" not in said
    assert left_in(tmp_path) == before
    assert (tmp_path / "full/file").read_text() == "mine"


def test_code_of_the_checkpoint_is_not_needed_where_transformers_has_the_class(call, tmp_path):
    auto_map = {"AutoModelForCausalLM": "modeling.Theirs"}
    folder = folder_with({**LLAMA, "auto_map": auto_map}, tmp_path / "whole")
    assert call(folder, "twin")[0] == 0
    assert "auto_map" not in json.loads((tmp_path / "twin" / "config.json").read_text())


@pytest.mark.parametrize("fault", ["a tensor is missing", "a number is not finite"])
def test_a_twin_that_does_not_load_whole_or_run_is_not_left(call, tmp_path, monkeypatch, fault):
    write = shrunk.save_file

    def spoiled(tensors, file, **options):
        name = "model.norm.weight"
        if fault == "a tensor is missing":
            del tensors[name]
        else:
            tensors[name][0] = float("nan")
        write(tensors, file, **options)

    monkeypatch.setattr(shrunk, "save_file", spoiled)
    code, _, said = call("llama", "twin")
    assert (code, "model.norm.weight" in said or "does not run" in said) == (2, True), said
    assert left_in(tmp_path) == []


def test_many_changes_are_counted_rather_than_listed(call, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.cli_shrink._ROWS", 2)
    code, said, _ = call(folder_with(LLAMA, tmp_path / "whole"), "twin")
    assert (code, "and 9 more" in said) == (0, True)


def test_a_model_that_loses_a_kind_of_module_says_so(call, monkeypatch):
    monkeypatch.setattr("harness.models.shrinking.building._DEPTHS", (2,))
    code, said, _ = call("flint", "twin")
    assert (code, "FlintSparseMoeBlock" in said) == (0, True)


def test_the_config_of_an_original_is_left_alone(tmp_path):
    original = twin.original_of_folder(folder_with(LLAMA, tmp_path / "whole"))
    twin.write_twin(original, tmp_path / "twin", "AutoModelForCausalLM")
    assert original.config.hidden_size == 2048


def test_a_config_alone_is_asked_of_the_hub_under_its_commit(tmp_path, monkeypatch):
    file = folder_with(LLAMA, tmp_path / COMMIT) / "config.json"
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(file))
    assert hub.fetch_config("some/llama") == (file, COMMIT)


def test_a_folder_that_loses_its_config_meanwhile_is_an_error(tmp_path):
    folder = folder_with(LLAMA, tmp_path / "whole")
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="not a config"):
        twin.original_of_folder(folder)


MEASURED = """
import pytest
import model_of_ones_own
from harness import Case

MINE = Case(family="running-mean", checkpoint="folder:twin")


@pytest.mark.harness(MINE)
def test_it_agrees(cell, check_cell):
    check_cell(cell)


@pytest.mark.harness(MINE)
def test_it_keeps_what_it_owes(probe_cell, check_cell):
    check_cell(probe_cell)
"""


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("fault", "verdicts"), [("", {"pass"}), ("the future leaks", {"pass", "fail"})]
)
def test_a_twin_of_ones_own_architecture_is_measured(fault, verdicts, call, tmp_path):
    assert call("running-mean", "twin", "--register", "model_of_ones_own")[0] == 0
    module = tmp_path / "model_of_ones_own.py"
    if fault:
        module.write_text(module.read_text().replace("(x.cumsum(1) / counted)", "x.mean(1, True)"))
    (tmp_path / "test_mine.py").write_text(MEASURED)
    asked = ["--mode=hf_eager", "--dtype=exact", "--probe=none,causality,batch,repeatability"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *asked, "test_mine.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == (1 if fault else 0), ran.stdout + ran.stderr
    cells = read_cells(tmp_path / "reports" / "runs" / "latest")
    assert len(cells) == 4
    assert set(cells.verdict) == verdicts
    red = cells[cells.verdict == "fail"]
    assert list(red.probe) == (["causality"] if fault else [])
    assert cells[cells.probe.isna()].sites_compared.item() > 4  # its sites are found
