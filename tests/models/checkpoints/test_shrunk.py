"""Shrunk checkpoints: the same bytes each time, and no parameter left where it started."""

import pytest
import torch
from safetensors.torch import load_file

from harness.coverage import Flips, flips_from
from harness.errors import SelectionError, Unavailable
from harness.models.architectures import architecture_of, automatic
from harness.models.checkpoints import shrunk
from harness.models.checkpoints.shrunk import FLIPS, _started, build, drawn, flips_of
from harness.models.checkpoints.synthetic import as_saved
from harness.models.ports.loading import load_model
from harness.models.shrinking import quiet, run_once

# Plain, gains at zero, decays and states, experts, two stacks.
TYPES = ("gpt2", "gemma2", "mamba2", "mixtral", "t5")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def tensors_of(model_type):
    tensors = load_file(build(model_type, "default").path / "model.safetensors")
    assert tensors
    return tensors


@pytest.mark.parametrize("model_type", TYPES)
def test_it_is_made_again_to_the_last_bit_whatever_was_drawn_before(
    model_type, tmp_path, monkeypatch
):
    first = build(model_type, "default")
    torch.manual_seed(1234)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    second = build(model_type, "default")
    assert first.path != second.path
    assert first.digest == second.digest


def test_torchs_generator_is_left_as_it_was_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    before = torch.get_rng_state()
    build("gpt2", "default")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_second_asking_finds_it_in_the_cache(monkeypatch):
    first = build("gpt2", "default")
    monkeypatch.setattr(shrunk, "write", None)
    assert build("gpt2", "default") == first


@pytest.mark.parametrize("model_type", TYPES)
def test_no_parameter_is_where_it_started_and_none_is_constant(model_type):
    built = build(model_type, "default")
    written = tensors_of(model_type)
    started = dict(as_saved(_started(built.path, built.config)))
    assert set(started) == set(written)
    same = [n for n, values in written.items() if (values == started[n]).any()]
    constant = [n for n, values in written.items() if values.numel() > 1 and values.std() == 0]
    assert (same, constant) == ([], [])


@pytest.mark.parametrize("model_type", TYPES)
def test_every_number_is_exact_in_bfloat16_and_float16(model_type):
    inexact = [
        name
        for name, values in tensors_of(model_type).items()
        if not torch.equal(values.bfloat16().float(), values)
        or not torch.equal(values.half().float(), values)
    ]
    assert inexact == []


@pytest.mark.parametrize("model_type", TYPES)
def test_it_loads_whole_and_runs(model_type):
    built = build(model_type, "default")
    record = automatic(model_type, architecture_of(model_type, "default").auto_class)
    with quiet():
        model = load_model(record, built, dtype="float32", device="cpu", attention="eager")
    run_once(model)


def test_gains_lie_around_where_they_start():
    for start in (0.0, 1.0):
        gains = drawn("model.norm.weight", torch.full((10_000,), start))
        assert abs(gains.mean().item() - start) < 0.02
        assert 0.28 < gains.std().item() < 0.32


@pytest.mark.parametrize(
    ("model_type", "table"),
    [
        ("roformer", "roformer.encoder.embed_positions.weight"),
        ("minimax", "model.layers.1.self_attn.diagonal_decay"),
    ],
)
def test_tables_that_a_model_never_learns_are_as_it_makes_them(model_type, table):
    built = build(model_type, "default")
    started = dict(as_saved(_started(built.path, built.config)))
    assert torch.equal(tensors_of(model_type)[table], started[table])


def test_integers_are_left_alone():
    counts = torch.arange(3)
    assert torch.equal(drawn("num_batches_tracked", counts), counts)


@pytest.mark.parametrize(("model_type", "variant"), [("lama", "default"), ("llama", "masked")])
def test_an_architecture_that_is_not_there_is_refused(model_type, variant):
    with pytest.raises(SelectionError, match=f"has no {model_type} as {variant}"):
        build(model_type, variant)


def test_off_default_has_its_flips_loads_whole_and_runs():
    built = build("gpt_neox", "off_default")
    flips = flips_from((built.path / FLIPS).read_text())
    assert flips == flips_of("gpt_neox", "default") == flips_of("gpt_neox", "off_default")
    assert set(flips.joined) > {"use_parallel_residual", "attention_bias"}
    assert {name: built.config[name] for name in ("use_parallel_residual", "attention_bias")} == {
        "use_parallel_residual": False,
        "attention_bias": False,
    }
    record = automatic("gpt_neox", "AutoModelForCausalLM")
    with quiet():
        run_once(load_model(record, built, dtype="float32", device="cpu", attention="eager"))


def test_the_experiment_is_made_once(monkeypatch):
    found = flips_of("gpt2", "default")
    monkeypatch.setattr(shrunk, "experiment", None)
    assert flips_of("gpt2", "default") == found
    assert build("gpt2", "off_default").path.is_dir()


NOTHING = Flips(changing=(), idle=("a", "b"), failing={}, untried=(), joined=(), apart={})


def test_where_no_flip_changes_anything_there_is_no_checkpoint_and_nothing_is_asked_again(
    monkeypatch,
):
    asked = []

    def experiment(*_, **__):
        asked.append(1)
        return NOTHING, {}

    monkeypatch.setattr(shrunk, "experiment", experiment)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"phi: none of the 2 fields .* changes its logits"):
            build("phi", "off_default")
    assert (flips_of("phi", "default"), asked) == (NOTHING, [1])


def test_what_cannot_be_made_small_is_asked_once(monkeypatch):
    asked = []

    def refuse(model_type, auto_class):
        asked.append((model_type, auto_class))
        raise Unavailable("too large")

    monkeypatch.setattr(shrunk, "tiny_of_type", refuse)
    shrunk._tiny_or_why.cache_clear()
    for variant in ("default", "off_default", "default"):
        with pytest.raises(Unavailable, match="too large"):
            build("opt", variant)
    shrunk._tiny_or_why.cache_clear()
    assert asked == [("opt", "AutoModelForCausalLM")]
