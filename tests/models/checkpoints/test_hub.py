"""The hub's real client against a small server on loopback that speaks the hub's URLs."""

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save
from transformers import AutoModelForCausalLM

from harness.errors import CheckpointError, Unavailable, UsageError
from harness.models.checkpoints import hub, synthetic

REPO = "someone/some-gpt2"
COMMIT = hashlib.sha1(b"today", usedforsecurity=False).hexdigest()
NAME = f"{REPO}@{COMMIT}"
INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@dataclass(slots=True, kw_only=True)
class Served:
    """What the server has, and the files it was asked for."""

    files: dict[str, bytes]
    config: dict[str, str]
    asked: list[str] = field(default_factory=list)


def sharded(folder: Path) -> dict[str, bytes]:
    """Cut the weights of a checkpoint in two shards, as the hub would hold them."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = dict(zip(SHARDS, (names[::2], names[1::2]), strict=True))
    weight_map = {name: shard for shard, part in parts.items() for name in part}
    return {
        **{file.name: file.read_bytes() for file in folder.glob("*.json")},
        **{
            shard: save({name: tensors[name] for name in part}, metadata={"format": "pt"})
            for shard, part in parts.items()
        },
        INDEX: json.dumps({"metadata": {}, "weight_map": weight_map}).encode(),
    }


def etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The URLs that the client asks for, with the headers that it reads."""

    served: Served

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        path = self.path.partition("?")[0]
        file = path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")
        if path == f"/api/models/{REPO}":
            siblings = [{"rfilename": name} for name in self.served.files]
            about = {"id": REPO, "sha": COMMIT, "siblings": siblings, "config": self.served.config}
            content = json.dumps(about).encode()
        elif path == f"/api/models/{REPO}/tree/{COMMIT}":
            content = json.dumps(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": etag(content)}
                    for name, content in self.served.files.items()
                ]
            ).encode()
        elif file in self.served.files:
            self.served.asked.append(file)
            content = self.served.files[file]
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{etag(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return synthetic.build("gpt2", "default", size="tiny").path


@pytest.fixture(autouse=True)
def client(tmp_path, monkeypatch):
    """A client with a cache of the test's own, whatever the surroundings set at its import."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody answers
    return cache


@pytest.fixture
def served(whole, monkeypatch):
    content = Served(files=sharded(whole), config={"model_type": "gpt2"})
    handler = type("ServingHub", (Hub,), {"served": content})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield content
        server.shutdown()
        thread.join()


def logits_of(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.inference_mode():
        return model(torch.arange(12).reshape(2, 6)).logits


def test_a_sharded_checkpoint_arrives_whole_with_equal_logits(served, whole):
    checkpoint = hub.fetch(NAME)
    assert set(served.asked) >= {*SHARDS, INDEX, "config.json", "tokenizer.json"}
    assert torch.equal(logits_of(checkpoint.path), logits_of(whole))


@pytest.mark.usefixtures("served")
def test_it_arrives_in_the_clients_own_cache(client):
    assert hub.fetch(NAME).path.is_relative_to(client)


def test_a_second_fetch_asks_the_server_for_no_file(served):
    first = hub.fetch(NAME)
    served.asked.clear()
    assert hub.fetch(NAME) == first
    assert served.asked == []


@pytest.mark.parametrize("commit", ["main", COMMIT[:7], COMMIT.upper(), COMMIT + "0", ""])
def test_anything_but_a_full_commit_hash_is_refused_before_the_network_is_asked(commit):
    with pytest.raises(UsageError, match=rf"found: +'{commit}'[\s\S]*next: +harness pin {REPO}"):
        hub.fetch(f"{REPO}@{commit}")


def test_a_name_without_any_commit_is_refused():
    with pytest.raises(UsageError, match=f"harness pin {REPO}"):
        hub.fetch(REPO)


def test_an_id_that_is_none_is_refused():
    with pytest.raises(UsageError, match="not an id of the hub"):
        hub.fetch(f"a/b/c@{COMMIT}")
    with pytest.raises(UsageError, match="not an id of the hub"):
        hub.pin("a/b/c")


def test_a_shard_that_the_server_lacks_is_named(served):
    del served.files[SHARDS[1]]
    with pytest.raises(CheckpointError, match=re.escape(f"the index names {SHARDS[1]}")):
        hub.fetch(NAME)


def test_a_truncated_shard_is_named(served):
    served.files[SHARDS[1]] = served.files[SHARDS[1]][:-1]
    with pytest.raises(CheckpointError, match=re.escape(f"{SHARDS[1]}: not a whole safetensors")):
        hub.fetch(NAME)


def test_a_checkpoint_without_config_is_refused(served):
    del served.files["config.json"]
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        hub.fetch(NAME)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "modeling_some.py",
        "model.pt",
        "onnx/model.safetensors",
        "consolidated.safetensors",
    ],
)
def test_pickles_programs_and_second_copies_are_not_downloaded(served, name):
    served.files[name] = b"harm"
    folder = hub.fetch(NAME).path
    assert name not in served.asked
    assert not (folder / name).exists()


def test_weights_that_are_only_a_pickle_are_refused(served):
    served.files = {"config.json": served.files["config.json"], "pytorch_model.bin": b"harm"}
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors"):
        hub.fetch(NAME)
    assert served.asked == ["config.json"] * len(served.asked)


@pytest.mark.usefixtures("served")
def test_an_unknown_model_is_unavailable():
    with pytest.raises(Unavailable, match=r"the hub does not give it .*404"):
        hub.fetch(f"someone/else@{COMMIT}")
    with pytest.raises(Unavailable, match=r"the hub does not give it .*404"):
        hub.pin("someone/else")


def test_without_a_server_it_is_unavailable_and_says_why(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the client waits 23 s between its attempts
    with pytest.raises(Unavailable, match=r"the hub does not give it .*refused"):
        hub.fetch(NAME)
    with pytest.raises(Unavailable, match=r"the hub does not give it .*refused"):
        hub.pin(REPO)


@pytest.mark.usefixtures("served")
def test_pin_gives_the_line_with_the_servers_commit():
    assert hub.pin(REPO) == f'Case(family="gpt2", checkpoint="hub:{NAME}")'


def test_pin_leaves_the_family_open_where_the_server_does_not_tell(served):
    served.config.clear()
    assert hub.pin(REPO) == f'Case(family="…", checkpoint="hub:{NAME}")'
