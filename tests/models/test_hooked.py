import json
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harness.case import Case, Cell, Prompt
from harness.errors import Refused, Unavailable
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.checkpoints import checkpoint_of
from harness.models.families import FAMILIES
from harness.models.ports import hooked_loading, lens, load_port
from harness.models.ports.hooked import HookedRunner
from harness.models.ports.hooked_sites import DECODER, ENCODER, ENCODER_DECODER, paths_of, places_of
from harness.models.ports.lens import refusals, require_release
from harness.models.ports.official import Official, Published, fit, official_of
from harness.models.sites import LOGITS, layer_of, order, within_block

NEVER_SUPPORTED = {
    "chatglm",
    "cohere",
    "cohere2",
    "doge",
    "falcon",
    "glm",
    "gpt_bigcode",
    "granite",
    "mpt",
    "persimmon",
    "qwen2_moe",
    "stablelm",
    "starcoder2",
}
SUPPORTED = sorted(set(FAMILIES) - NEVER_SUPPORTED)


def cell_of(family, *, variant="default", mode="hooked", dtype="float32"):
    return Cell(case=Case(family=family, variant=variant), loading_mode=mode, dtype=dtype)


class Point(nn.Module):
    """A hook point: gives what it takes."""

    def forward(self, value):
        return value


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.hook_resid_pre, self.hook_resid_post = Point(), Point()
        self.ln1 = nn.LayerNorm(4)

    def forward(self, resid):
        resid = self.hook_resid_pre(resid)
        return self.hook_resid_post(resid + self.ln1(resid))


class Hooked(nn.Module):
    """Two blocks with the few things of a HookedTransformer that a runner touches."""

    def __init__(self, **cfg):
        super().__init__()
        self.cfg = SimpleNamespace(positional_embedding_type="standard", **cfg)
        self.embed = nn.Embedding(67, 4)
        self.hook_embed, self.hook_pos_embed = Point(), Point()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.ln_final = nn.LayerNorm(4)
        self.given = {}

    @property
    def hook_dict(self):
        return {name: module for name, module in self.named_modules() if isinstance(module, Point)}

    def run_with_hooks(self, *, input, fwd_hooks, return_type, **given):  # noqa: A002 - its name
        assert return_type == "logits"
        self.given = given
        hooks = dict(fwd_hooks)

        def told(name):
            return lambda _, __, output: hooks[name](output, hook=None)

        points = self.hook_dict
        handles = [points[name].register_forward_hook(told(name)) for name in hooks]
        resid = self.hook_embed(self.embed(input))
        for block in self.blocks:
            resid = block(resid)
        for handle in handles:
            handle.remove()
        return self.ln_final(resid)


def runner_of(model):
    return HookedRunner(cell_of("gpt2"), model, config=SimpleNamespace())


@pytest.mark.parametrize("mode", ["hooked", "hooked_no_processing", "hooked_fold_ln"])
def test_a_release_without_it_makes_the_cell_unavailable(mode):
    result = measure_cell(
        cell_of("gpt2", mode=mode), run_id="x", references=References(), plan=Plan()
    )
    assert result.verdict == "unavailable"
    assert "has no HookedTransformer; it takes transformer-lens<4" in result.row["reason"]


def test_an_environment_without_transformer_lens_is_named(monkeypatch):
    def missing(_):
        raise lens.PackageNotFoundError

    monkeypatch.setattr(lens, "version", missing)
    cell = cell_of("gpt2", mode="bridge")
    with pytest.raises(Unavailable, match="transformer-lens is not installed"):
        load_port(cell, checkpoint_of(cell.case))


@pytest.mark.parametrize(
    ("installed", "allowed", "there"),
    [
        ("2.18.0", ">=3", False),
        ("3.0.0", ">=3", True),
        ("3.9.0", "<4", True),
        ("4.0.0", "<4", False),
        ("4.0.0b1", ">=3", True),
    ],
)
def test_a_release_is_told_by_its_number(monkeypatch, installed, allowed, there):
    monkeypatch.setattr(lens, "version", lambda _: installed)
    if there:
        require_release(allowed, of="what is asked for")
    else:
        with pytest.raises(Unavailable, match=f"transformer-lens {installed} has no"):
            require_release(allowed, of="what is asked for")


def test_words_of_refusal_are_refused_in_one_short_line():
    names = ", ".join(f"name/{number}" for number in range(300))
    with pytest.raises(Refused) as raised, refusals(["not found"]):
        raise ValueError(f"x/y not found. Valid official model names: [{names}]\nmore")
    assert "x/y not found" in str(raised.value)
    assert len(str(raised.value)) < 300


def test_what_an_operation_of_torch_does_not_support_is_a_crash():
    with pytest.raises(RuntimeError, match="not supported"), refusals(["not supported"]):
        1 - torch.tensor([True])


def test_other_errors_are_left_alone():
    with pytest.raises(ValueError, match="broken"), refusals(["not found"]):
        raise ValueError("broken")


@pytest.mark.parametrize("places", [DECODER, ENCODER, ENCODER_DECODER])
def test_places_are_of_known_sites(places):
    inside = [f"{stack}.0.{site}" for stack in places.stacks for site in places.inside]
    assert len({order(site) for site in (*places.outside, *inside)}) == len(places.outside) + len(
        inside
    )


def test_an_encoder_is_read_behind_the_norm_that_closes_its_block():
    assert places_of("bert").inside["resid_post"] == "hook_normalized_resid_post"


def test_sites_stand_in_forward_order_and_end_with_the_logits():
    sites = runner_of(Hooked()).sites
    assert list(sites[:-1]) == sorted(sites[:-1], key=order)
    assert sites[-1] == LOGITS
    assert {within_block(site) for site in sites if layer_of(site) is not None} == {
        "resid_pre",
        "ln1.out",
        "resid_post",
    }


def test_hook_points_that_never_fire_are_no_sites():
    model = Hooked()
    model.cfg.positional_embedding_type = "alibi"
    assert "pos_embed" not in paths_of(model, DECODER)


def test_an_embedding_behind_its_norm_is_not_taken_for_the_one_before():
    assert "embed" not in paths_of(Hooked(post_embedding_ln=True), DECODER)


def test_hook_points_and_norms_are_read_in_one_run():
    model = Hooked()
    runner = runner_of(model)
    prompt = Prompt.unpadded(((3, 5, 7),), origin="test")
    sites = [site for site in runner.sites if site != "pos_embed"]  # the stub has none
    taken = runner.run(prompt, sites)
    assert set(taken) == set(sites)
    resid, normed = taken["blocks.0.resid_pre"], taken["blocks.0.ln1.out"]
    assert torch.equal(normed, model.blocks[0].ln1(resid))
    assert torch.equal(taken["blocks.1.resid_pre"], resid + normed)
    assert torch.equal(taken["ln_final.out"], taken[LOGITS])


def test_no_hook_outlives_a_run():
    model = Hooked()
    runner_of(model).run(Prompt.unpadded(((3,),), origin="test"), ["ln_final.out", "embed"])
    assert not any(module._forward_hooks for module in model.modules())


def test_a_mask_is_given_where_something_is_padded():
    model = Hooked()
    tokens = ((3, 5, 7), (3, 9, 1))
    runner_of(model).run(Prompt.unpadded(tokens, origin="test"), [LOGITS])
    assert model.given == {}
    mask = ((1, 1, 1), (0, 1, 1))
    prompt = Prompt(tokens=tokens, attention_mask=mask, origin="test")
    runner_of(model).run(prompt, [LOGITS])
    assert model.given["attention_mask"].tolist() == [list(row) for row in mask]


def test_nothing_is_passed_through():
    assert runner_of(Hooked()).passed_through() == frozenset()


@pytest.mark.parametrize("family", SUPPORTED)
def test_every_variant_of_a_supported_family_has_an_official_name(family):
    assert all(official_of(family, variant).name for variant in FAMILIES[family].variant_names)


@pytest.mark.parametrize("family", sorted(NEVER_SUPPORTED & set(FAMILIES)))
def test_a_family_that_no_release_has_is_refused(family):
    with pytest.raises(Refused, match=f"no architecture {family}"):
        official_of(family, "default")


@pytest.mark.parametrize("family", SUPPORTED)
def test_what_is_put_in_can_be_read_from_every_variant(family):
    for variant in FAMILIES[family].variant_names:
        config = FAMILIES[family].variant_config(variant)
        official = official_of(family, variant)
        read = [*official.sizes.values(), *(number.read for number in official.numbers.values())]
        assert all(reader(config) is not NotImplemented for reader in read)


WINDOWED = Official(
    name="x/y",
    sizes={"d_model": lambda config: config["hidden_size"]},
    numbers={"window": Published(value=4096, read=lambda config: config["sliding_window"])},
)
CONFIG = {"hidden_size": 40, "sliding_window": 6}


def test_a_number_as_published_is_exchanged_for_the_checkpoints():
    cfg = SimpleNamespace(d_model=2048, window=4096, eps=1e-6)
    fit(cfg, WINDOWED, CONFIG)
    assert cfg == SimpleNamespace(d_model=40, window=6, eps=1e-6)


def test_a_number_that_is_not_as_published_stays_to_be_seen():
    cfg = SimpleNamespace(d_model=2048, window=2048)
    fit(cfg, WINDOWED, CONFIG)
    assert cfg.window == 2048


def test_a_number_fixed_in_the_code_of_a_release_is_not_the_ports_fault():
    with pytest.raises(Unavailable, match="no window in this release"):
        fit(SimpleNamespace(d_model=2048), WINDOWED, CONFIG)
    fit(SimpleNamespace(d_model=2048), WINDOWED, {**CONFIG, "sliding_window": 4096})


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_processing_is_refused_where_the_class_has_none(family):
    cell = cell_of(family, mode="hooked")
    with pytest.raises(Refused, match="processes no weights"):
        hooked_loading.load_hooked(cell, checkpoint_of(cell.case))


def test_the_config_of_an_official_model_is_found_offline(monkeypatch):
    transformers = pytest.importorskip("transformers")
    checkpoint = checkpoint_of(Case(family="gpt2"))
    loading = SimpleNamespace(
        get_official_model_name=lambda name: name,
        get_pretrained_model_config=lambda: SimpleNamespace(d_mlp=80),
    )
    before = loading.get_pretrained_model_config
    monkeypatch.setitem(sys.modules, "transformer_lens.loading_from_pretrained", loading)
    official = official_of("gpt2", "default")
    with hooked_loading._taken_for(official, checkpoint) as (name, cache):
        found = transformers.AutoConfig.from_pretrained(
            name, cache_dir=str(cache), local_files_only=True
        )
        assert loading.get_pretrained_model_config().d_mlp == checkpoint.config["n_inner"]
    assert found.n_embd == json.loads((checkpoint.path / "config.json").read_text())["n_embd"]
    assert loading.get_pretrained_model_config is before
    assert not cache.exists()
