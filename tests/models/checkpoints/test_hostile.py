"""Checkpoints that mean harm: each is refused in a sentence, and nothing of them ran."""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
import transformers

from harness.case import Case, Cell
from harness.errors import CheckpointError, HarnessError, Refused, UsageError
from harness.models.checkpoints import checkpoint_of, model_type_of, synthetic
from harness.models.checkpoints.folder import Checkpoint, open_folder
from harness.models.checkpoints.twin import original_of_folder
from harness.models.ports import load_port, load_reference
from harness.models.remote_code import no_code_but_of
from harness.models.texts import tokenizer_of

TEN_GB = 10 * 2**30


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return synthetic.build("gpt2", "default", size="tiny").path


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "given"))


@pytest.fixture
def ran(tmp_path):
    """Give the file that each payload writes when it runs."""
    return tmp_path / "ran"


class Payload:
    """A pickle that writes a file when it is read."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self):
        return os.mkdir, (str(self.ran),)


def case_of(folder: Path, family: str = "gpt2") -> Case:
    return Case(family=family, checkpoint=f"folder:{folder}")


def change(file: Path, **fields: object) -> None:
    told = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**told, **fields}))


def refusal_of(folder: Path, family: str = "gpt2") -> str:
    """Give the sentence by which a checkpoint is refused before anything is loaded."""
    with pytest.raises(CheckpointError) as refused:
        checkpoint_of(case_of(folder, family))
    said = str(refused.value)
    assert "\n" not in said
    assert len(said) < 600
    return said


def write_pickle(file: Path, ran: Path) -> None:
    torch.save({"weight": Payload(ran)}, file)


def write_code(folder: Path, ran: Path) -> None:
    (folder / "modeling_own.py").write_text(f"import os\nos.mkdir({str(ran)!r})\n")


def test_an_honest_folder_is_taken(folder):
    found = checkpoint_of(case_of(folder))
    assert found == open_folder(folder)
    assert tokenizer_of(found) is not None


def test_the_payload_of_a_pickle_would_run(tmp_path, ran):
    (tmp_path / "planted.bin").write_bytes(pickle.dumps(Payload(ran)))
    pickle.loads((tmp_path / "planted.bin").read_bytes())  # noqa: S301 - that it runs is the point
    assert ran.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_weights_that_are_a_pickle_are_refused(folder, ran, name):
    (folder / "model.safetensors").unlink()
    write_pickle(folder / name, ran)
    assert f"its weights are in {name}; a pickle runs code" in refusal_of(folder)
    assert not ran.exists()


def test_a_safetensors_file_of_another_name_does_not_let_a_pickle_be_read(folder, ran):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    write_pickle(folder / "pytorch_model.bin", ran)
    assert "its weights are in pytorch_model.bin" in refusal_of(folder)
    assert not ran.exists()


def test_a_pickle_beside_safetensors_is_never_read(folder, ran):
    write_pickle(folder / "pytorch_model.bin", ran)
    (folder / "training_args.bin").write_bytes(pickle.dumps(Payload(ran)))
    cell = Cell(case=case_of(folder), loading_mode="hf_eager", dtype="float32")
    load_reference(cell, checkpoint_of(cell.case))
    assert not ran.exists()


@pytest.mark.parametrize("named", ["adapter_model.bin", "../model.safetensors", "model.bin"])
def test_weights_that_the_config_names_elsewhere_are_refused(folder, ran, named):
    write_pickle(folder / "adapter_model.bin", ran)
    change(folder / "config.json", transformers_weights=named)
    assert named in refusal_of(folder)
    assert not ran.exists()


def test_an_adapter_which_names_another_model_is_refused(folder):
    change(folder / "adapter_config.json", base_model_name_or_path="/elsewhere")
    assert "names another model" in refusal_of(folder)


@pytest.mark.parametrize("model_type", ["gpt2", "own"])
@pytest.mark.parametrize("source", ["modeling_own.", "someone/else--modeling_own."])
def test_code_that_a_config_names_does_not_run(folder, ran, model_type, source, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what transformers would ask
    write_code(folder, ran)
    own = {"AutoConfig": f"{source}Config", "AutoModelForCausalLM": f"{source}Model"}
    change(folder / "config.json", auto_map=own, model_type=model_type)
    checkpoint = checkpoint_of(case_of(folder))
    cell = Cell(case=case_of(folder), loading_mode="hf_eager", dtype="float32")
    if model_type == "gpt2":  # transformers has a class of its own, and that one is taken
        assert load_reference(cell, checkpoint).sites
    else:
        with pytest.raises(HarnessError, match="trust_remote_code"):
            load_reference(cell, checkpoint)
    assert not ran.exists()


def test_code_that_a_tokenizer_names_does_not_run(folder, ran, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    write_code(folder, ran)
    own = {"AutoTokenizer": [None, "modeling_own.Tokenizer"]}
    change(folder / "tokenizer_config.json", auto_map=own, tokenizer_class="Tokenizer")
    tokenizer_of(checkpoint_of(case_of(folder)))  # a class of transformers reads tokenizer.json
    change(folder / "config.json", model_type="own")
    with pytest.raises(ValueError, match="trust_remote_code"):
        tokenizer_of(checkpoint_of(case_of(folder)))
    assert not ran.exists()


def build_with_trust(checkpoint: Checkpoint) -> None:
    """Build a model as nnsight 0.7 does."""
    config = transformers.AutoConfig.from_pretrained(checkpoint.path)
    transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=True)


@pytest.fixture
def with_code(folder, ran, tmp_path, monkeypatch):
    monkeypatch.setattr(
        transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    write_code(folder, ran)
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_own.Model"})
    return checkpoint_of(case_of(folder))


def test_code_that_a_port_trusts_by_itself_is_refused(with_code, ran):
    with (
        pytest.raises(Refused, match=r"its own code \(modeling_own\.py .*next: take auto_map out"),
        no_code_but_of(with_code),
    ):
        build_with_trust(with_code)
    assert not ran.exists()


def test_without_the_guard_such_code_would_run(with_code, ran):
    with pytest.raises(AttributeError, match="Model"):
        build_with_trust(with_code)
    assert ran.exists()


@pytest.mark.parametrize("mode", ["nnterp", "bridge", "hf_sdpa"])
def test_no_port_runs_code_that_a_config_names(with_code, ran, mode):
    cell = Cell(case=case_of(with_code.path), loading_mode=mode, dtype="float32")
    assert load_port(cell, with_code).sites
    assert not ran.exists()


@pytest.mark.parametrize(
    "named", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", ".."]
)
def test_a_shard_outside_the_folder_is_refused(folder, named):
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index = {"weight_map": {"wte.weight": named}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "only a file's plain name is taken" in refusal_of(folder)


def test_a_shard_that_is_a_pickle_is_refused(folder, ran):
    write_pickle(folder / "shard.bin", ran)
    index = {"weight_map": {"wte.weight": "shard.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names 'shard.bin' for weights; a pickle runs code" in refusal_of(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    "named", [None, "5", "0" * 5000, f"{5000:05000}.safetensors", "é" * 150 + ".safetensors"]
)
def test_an_index_that_names_no_shard_is_refused_in_a_line_that_says_what_to_do(folder, named):
    index = {"weight_map": {"wte.weight": named}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    said = refusal_of(folder)
    assert len(said) < 1000
    assert "; save the model" in said or "; delete the name" in said


@pytest.mark.parametrize("field", ["tokenizer_file", "vocab_file", "merges_file", "spm_file"])
@pytest.mark.parametrize("named", ["../secret.json", "/etc/passwd", ["../x.json"], {"a": 1}])
def test_a_tokenizer_file_outside_the_folder_is_refused(folder, field, named):
    change(folder / "tokenizer_config.json", **{field: named})
    assert f"{field} names" in refusal_of(folder)


def test_versions_of_a_tokenizer_outside_the_folder_are_refused(folder):
    change(folder / "tokenizer_config.json", fast_tokenizer_files=["../tokenizer.4.0.0.json"])
    assert "fast_tokenizer_files names" in refusal_of(folder)


def test_a_path_of_the_authors_machine_that_nobody_reads_is_no_harm(folder):
    change(folder / "tokenizer_config.json", special_tokens_map_file="/home/author/map.json")
    change(folder / "tokenizer_config.json", tokenizer_file=None)
    assert checkpoint_of(case_of(folder))


def test_a_chat_template_is_text_and_does_not_run(folder, ran):
    attack = f"{{{{ ''.__class__.__mro__[1].__subclasses__() }}}}{{% set _ = '{ran}' %}}"
    change(folder / "tokenizer_config.json", chat_template=attack)
    (folder / "chat_template.jinja").write_text(attack)
    assert tokenizer_of(checkpoint_of(case_of(folder))).encode("t7")
    assert not ran.exists()


@pytest.mark.parametrize("inside", [{}, {"text_config": {}}])
def test_a_kernel_of_the_hub_is_refused(folder, inside):
    asked = {"attn_implementation": "kernels-community/flash-attn3"}
    change(folder / "config.json", **(dict.fromkeys(inside, asked) or asked))
    assert "attn_implementation names 'kernels-community" in refusal_of(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.json", "extra"])
def test_a_link_that_leads_out_is_refused(folder, name):
    outside = folder.parent / "outside"
    outside.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    assert f"{name}: a link that leads out of the folder" in refusal_of(folder)


def test_a_link_within_the_folder_is_taken(folder):
    (folder / "model.safetensors").rename(folder / "real.safetensors")
    (folder / "model.safetensors").symlink_to("real.safetensors")
    assert checkpoint_of(case_of(folder))


def test_links_of_the_hubs_cache_are_taken_and_no_others(folder, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / ("0" * 40)
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        (snapshot / file.name).symlink_to(Path(shutil.copy(file, blobs / file.name)))
    assert checkpoint_of(case_of(snapshot))
    (snapshot / "extra").symlink_to(tmp_path)
    assert "a link that leads out" in refusal_of(snapshot)


def test_a_pipe_in_place_of_a_file_is_refused(folder):
    os.mkfifo(folder / "more.safetensors")
    assert "neither a file nor a folder" in refusal_of(folder)


def header_of(size: int) -> bytes:
    """Give a kilobyte of safetensors that says of one tensor that it has so many bytes."""
    tensor = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"wte.weight": tensor}).encode()
    return (struct.pack("<Q", len(header)) + header).ljust(1024, b" ")


@pytest.mark.parametrize("content", [header_of(TEN_GB), struct.pack("<Q", TEN_GB) + b"{" * 1016])
def test_ten_gigabytes_that_a_kilobyte_declares_are_refused(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert "not a whole safetensors file" in refusal_of(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"n_embd": 10**9},
        {"vocab_size": 10**12},
        {"n_layer": 10**9},
        {"n_head": 10**9},
        {"n_inner": 10**10},
    ],
)
def test_a_config_that_is_far_larger_than_its_weights_is_refused(folder, fields):
    change(folder / "config.json", **fields)
    ((name, value),) = fields.items()
    assert f"{name}={value}" in refusal_of(folder)


def test_parameters_that_no_field_gives_away_are_counted_without_memory(folder):
    change(folder / "config.json", n_positions=10**9)
    assert "asks for a model of" in refusal_of(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "vocab.txt"])
def test_a_text_of_gigabytes_is_refused_and_not_read(folder, name):
    with (folder / name).open("ab") as file:
        file.truncate(TEN_GB)  # a hole: it takes no room on disk
    assert f"{TEN_GB} bytes, and at most" in refusal_of(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "1" * 5000, '{"a": ', b"\xff"])
def test_a_config_that_is_no_object_is_refused(folder, content):
    raw = content if isinstance(content, bytes) else content.encode()
    (folder / "config.json").write_bytes(raw)
    assert "config.json: not" in refusal_of(folder)


@pytest.mark.parametrize("harm", ["[" * 100_000, TEN_GB])
def test_a_config_of_which_a_twin_is_to_be_made_is_read_within_bounds(folder, harm):
    with (folder / "config.json").open("w") as file:
        _ = file.truncate(harm) if isinstance(harm, int) else file.write(harm)
    with pytest.raises(CheckpointError):
        original_of_folder(folder)


@pytest.mark.parametrize(
    ("family", "variant"), [("mixtral", "default"), ("t5", "default"), ("gpt_oss", "default")]
)
def test_an_honest_config_is_about_as_large_as_its_weights(family, variant):
    made = synthetic.build(family, variant, size="tiny")
    assert checkpoint_of(case_of(made.path, family)).digest == made.digest


@pytest.mark.parametrize("family", ["../../up", "a/b", ".hidden", "a\nb", "a\x1b[2J", "<img>"])
def test_a_model_type_that_is_a_path_is_no_family(folder, family):
    change(folder / "config.json", model_type=family)
    with pytest.raises(UsageError, match=r"family=.* is no name"):
        case_of(folder, model_type_of(f"folder:{folder}"))
