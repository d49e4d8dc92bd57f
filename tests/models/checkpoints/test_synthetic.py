import json

import pytest
import torch
from safetensors.torch import load_file

from harness.errors import CheckpointError, SelectionError
from harness.exact import true_float64
from harness.models.checkpoints.synthetic import SIZES, build, draw
from harness.models.families import FAMILIES

NAMES = ("model.embed_tokens.weight", "layers.0.mlp.up_proj.weight", "q_proj.bias", "sinks")
SHAPES = ((1000, 1000), (1,), (3, 4, 5))


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def tensors_of(family):
    tensors = load_file(build(family, "default", size="tiny").path / "model.safetensors")
    assert tensors
    return tensors


@pytest.mark.parametrize("name", NAMES)
def test_the_same_name_gives_the_same_tensor_whatever_was_drawn_before(name):
    first = draw(name, (7, 5), norm_offset=False)
    torch.randn(3)
    draw("another", (4,), norm_offset=False)
    assert torch.equal(draw(name, (7, 5), norm_offset=False), first)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    draw("weight", (7, 5), norm_offset=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_names_give_other_tensors():
    drawn = {tuple(draw(name, (5,), norm_offset=False).tolist()) for name in NAMES}
    assert len(drawn) == len(NAMES)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_exact_in_bfloat16_and_float16(name, shape):
    values = draw(name, shape, norm_offset=False)
    assert values.dtype == torch.float32
    assert torch.equal(values.bfloat16().float(), values)
    assert torch.equal(values.half().float(), values)


@pytest.mark.parametrize(("norm_offset", "center"), [(False, 1.0), (True, 0.0)])
def test_norm_gains_lie_around_what_the_norm_makes_one_of(norm_offset, center):
    gains = draw("model.norm.weight", (10_000,), norm_offset=norm_offset)
    assert abs(gains.mean().item() - center) < 0.02
    assert 0.28 < gains.std().item() < 0.32


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_no_parameter_is_left_at_a_default(family):
    constant = [
        name
        for name, values in tensors_of(family).items()
        if values.numel() > 1 and values.std() == 0
    ]
    assert constant == []


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_files_tensors_are_the_ones_drawn_from_their_names(family):
    tensors = tensors_of(family)
    offset = FAMILIES[family].norm_offset
    other = [
        name
        for name, values in tensors.items()
        if not torch.equal(values, draw(name, tuple(values.shape), norm_offset=offset))
    ]
    assert other == []


def test_the_same_checkpoint_is_made_again_to_the_last_bit(tmp_path, monkeypatch):
    first = build("gpt2", "default", size="tiny")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    second = build("gpt2", "default", size="tiny")
    assert first.path != second.path
    assert first.digest == second.digest


def test_a_size_reaches_the_config_and_the_tensors(monkeypatch):
    monkeypatch.setitem(SIZES, "wider", {"gpt2": {"n_embd": 30, "n_layer": 1}})
    built = build("gpt2", "default", size="wider")
    tensors = load_file(built.path / "model.safetensors")
    assert built.config["n_embd"] == 30
    assert tensors["transformer.wte.weight"].shape[1] == 30
    assert not any(".h.1." in name for name in tensors)


@pytest.mark.parametrize(("family", "size"), [("gpt2", "huge"), ("llama", "gpt2-small")])
def test_an_unknown_size_is_refused_with_the_known_ones(family, size):
    with pytest.raises(SelectionError, match=rf"no synthetic size '{size}'.*tiny, gpt2-small"):
        build(family, "default", size=size)


def test_the_tokenizer_has_one_token_for_each_row_of_the_embedding():
    from transformers import AutoTokenizer

    built = build("gpt2", "default", size="tiny")
    tokenizer = AutoTokenizer.from_pretrained(built.path)
    words = json.loads((built.path / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(words) == built.config["vocab_size"]
    assert tokenizer("t5 t7", add_special_tokens=False)["input_ids"] == [5, 7]


def test_in_exact_mode_nothing_is_drawn_since_it_would_be_other_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    with true_float64(), pytest.raises(CheckpointError, match="made in exact mode"):
        build("gpt2", "default", size="tiny")
    assert not list((tmp_path / "checkpoints").glob("gpt2-*"))
    assert build("gpt2", "default", size="tiny").path.is_dir()
