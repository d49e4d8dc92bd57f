import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.errors import CheckpointError
from harness.models.checkpoints.folder import cache_folder, cached, open_folder
from harness.record import read_sealed


def write_checkpoint(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    save_file({"weight": torch.arange(100.0)}, folder / "model.safetensors")


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def cut_off_a_byte(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def reopen() -> None:
    cached("some", lambda _: pytest.fail("made a second time"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def sealed():
    return cached("some", write_checkpoint).path


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_checkpoint(folder)
    return folder


def test_a_whole_folder_is_made_once_and_opened_again_with_one_digest(sealed):
    made = cached("some", write_checkpoint)
    assert made.path == sealed
    assert made.config == {"model_type": "gpt2"}
    assert made == cached("some", lambda _: pytest.fail("made a second time"))


@pytest.mark.parametrize("harm", [flip_a_byte, cut_off_a_byte, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_harmed_file_is_found_and_named(sealed, harm, name):
    harm(sealed / name)
    with pytest.raises(CheckpointError, match=rf"{name}: corrupt checkpoint[\s\S]*next: +delete"):
        reopen()


def test_a_removed_file_is_said_to_be_removed(sealed):
    (sealed / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"found: +sha256 no such file"):
        reopen()


@pytest.mark.parametrize("harm", [cut_off_a_byte, Path.unlink])
def test_an_unreadable_seal_is_found_and_named(sealed, harm):
    harm(sealed / "sha256.json")
    with pytest.raises(CheckpointError, match=r"seal sha256\.json cannot be read"):
        reopen()


def test_two_makers_at_once_make_one_folder():
    made = []
    together = threading.Barrier(2)

    def make(folder):
        made.append(folder)
        time.sleep(0.2)  # long enough for the other to arrive while this one is at work
        write_checkpoint(folder)

    def ask(_):
        together.wait()
        return cached("some", make)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert len(made) == 1
    assert first == second


def test_a_maker_that_raises_leaves_nothing_and_the_next_one_succeeds():
    def break_off(folder):
        write_checkpoint(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached("some", break_off)
    assert [path.name for path in cache_folder().iterdir() if path.is_dir()] == []
    assert cached("some", write_checkpoint).path.is_dir()


def test_a_folder_of_the_users_is_opened_where_it_lies(mine):
    assert open_folder(mine).path == mine
    assert open_folder(str(mine)) == open_folder(mine)


def write_another_config(file: Path) -> None:
    file.write_text('{"model_type": "gpt3"}')


@pytest.mark.parametrize(
    ("name", "change"),
    [("model.safetensors", flip_a_byte), ("config.json", write_another_config)],
)
def test_the_digest_tells_other_contents_apart(mine, name, change):
    before = open_folder(mine).digest
    change(mine / name)
    assert open_folder(mine).digest != before


@pytest.mark.parametrize(
    ("harm", "name", "said"),
    [
        (Path.unlink, "config.json", r"no config\.json"),
        (Path.unlink, "model.safetensors", r"no \*\.safetensors"),
        (cut_off_a_byte, "model.safetensors", r"model\.safetensors: not a whole safetensors file"),
    ],
)
def test_a_folder_of_the_users_that_is_not_whole_is_refused(mine, harm, name, said):
    harm(mine / name)
    with pytest.raises(CheckpointError, match=said):
        open_folder(mine)


def test_an_empty_weights_file_is_refused(mine):
    (mine / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a whole safetensors file"):
        open_folder(mine)


def test_a_shard_that_only_the_index_knows_is_named(mine):
    index = mine / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"weight": "model.safetensors", "other": "lost.safetensors"}}')
    with pytest.raises(CheckpointError, match=r"the index names lost\.safetensors"):
        open_folder(mine)


@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[]", '{"weight_map": []}', '{"weight_map": 7}']
)
def test_an_index_that_is_none_is_named(mine, content):
    (mine / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"index\.json: not an index of shards.*make it anew"):
        open_folder(mine)


@pytest.mark.parametrize("word", ["model.safetensors", "config.json"])
def test_a_seal_that_lost_a_file_is_refused(sealed, word):
    seal = sealed / "sha256.json"
    left = {name: digest for name, digest in json.loads(seal.read_text()).items() if name != word}
    seal.write_text(json.dumps(left, indent=1))
    with pytest.raises(CheckpointError, match=r"(?s)the seal sha256\.json cannot be read.*next:"):
        reopen()


def test_a_seal_that_is_not_sealed_itself_as_older_ones_are_is_read(sealed):
    seal = sealed / "sha256.json"
    seal.write_text(json.dumps(read_sealed(seal)))
    reopen()


@pytest.mark.parametrize("text", ["", "[]", "7", '{"model_type": ', "\x00"])
def test_a_config_that_is_none_is_told_when_it_is_read(mine, text):
    assert open_folder(mine).config == {"model_type": "gpt2"}
    (mine / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: not .*make it anew"):
        _ = open_folder(mine).config


@pytest.mark.parametrize("shard", ["other.safetensors", "1" * 999, "../mine/model.safetensors", 7])
def test_an_index_of_what_is_not_in_the_folder_is_refused(mine, shard):
    index = mine / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": "model.safetensors"}}))
    open_folder(mine)
    index.write_text(json.dumps({"weight_map": {"weight": shard}}))
    with pytest.raises(CheckpointError, match=r"index.* names "):
        open_folder(mine)
