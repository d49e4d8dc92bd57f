import functools
import json
import math
import tempfile
from pathlib import Path

import pytest
import torch
import transformers

from harness.case import Case, Cell
from harness.measure.prompts import Vocabulary, bank
from harness.measure.references import References
from harness.models.conversion import glm_config
from harness.models.families import FAMILIES, every_variant
from harness.models.family import REMOVED, Family
from harness.models.layouts import n_heads, n_kv_heads

VARIANTS = [(name, variant) for name in FAMILIES for variant in FAMILIES[name].variant_names]
HIDDEN_IN_MLP = ("intermediate_size", "n_inner", "d_ff", "ffn_dim")
EXPERTS = ("num_local_experts", "num_experts")
EXACT = 1e-12

# Families whose attention and MLP are added to the stream one after the other.
SEQUENTIAL = ("gpt2", "llama", "gemma2", "bloom")

each_variant = pytest.mark.parametrize(("family", "variant"), VARIANTS, ids="-".join)


@functools.cache
def load_config(family, variant):
    """Load a variant's config.json as transformers does; that of GLM, for ChatGLM."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        config = FAMILIES[family].variant_config(variant)
        file.write_text(json.dumps(config if FAMILIES[family].is_native else glm_config(config)))
        return transformers.AutoConfig.from_pretrained(folder)


def first_of(config, names):
    return next((getattr(config, name) for name in names if getattr(config, name, None)), None)


def sizes_of(config):
    """Give the sizes of all axes that a tensor of the model has, and the number of layers."""
    heads = n_heads(config)
    head = first_of(config, ("head_dim", "d_kv")) or config.hidden_size // heads
    sizes = {
        "vocabulary": config.vocab_size,
        "residual stream": config.hidden_size,
        "hidden in the MLP": first_of(config, HIDDEN_IN_MLP),
        "heads": heads,
        "key-value heads": None if n_kv_heads(config) == heads else n_kv_heads(config),
        "one head": head,
        "all heads": None if head * heads == config.hidden_size else head * heads,
        "experts": first_of(config, EXPERTS),
        "layers": config.num_hidden_layers,
    }
    return {name: size for name, size in sizes.items() if size is not None}


@functools.cache
def exact_activations(family):
    """Run the reference in true float64 on a token, a batch and the longest prompt of the bank."""
    cell = Cell(case=Case(family=family), loading_mode="bridge", dtype="exact")
    reference = References().of(cell)
    prompts = bank(Vocabulary.of(reference.checkpoint.config, padding=False))
    kept = ("bank:one_token", "bank:batch", "bank:longest")
    return [reference.activations(prompt) for prompt in prompts if prompt.origin in kept]


def distance(actual, expected):
    return float((actual - expected).norm() / expected.norm())


@each_variant
def test_the_config_of_every_variant_loads(family, variant):
    config = load_config(family, variant)
    expected = FAMILIES[family].config["model_type"] if FAMILIES[family].is_native else "glm"
    assert config.model_type == expected


@each_variant
def test_no_two_axes_of_a_model_have_one_size(family, variant):
    sizes = sizes_of(load_config(family, variant))
    assert len(set(sizes.values())) == len(sizes), sizes


@each_variant
def test_prompts_can_be_longer_than_every_window(family, variant):
    config = FAMILIES[family].variant_config(variant)
    vocabulary = Vocabulary.of(config, padding=True)
    names = ("sliding_window", "window_size", "keep_window_size")
    windows = {config[name] for name in names if config.get(name)}
    windows = {window for window in windows if window < vocabulary.max_length}
    assert list(vocabulary.windows) == sorted(windows)
    assert all(2 * window + 3 <= vocabulary.max_length for window in windows)


@each_variant
def test_a_variant_changes_something(family, variant):
    record = FAMILIES[family]
    changed = record.variant_config(variant) != record.variant_config("default")
    assert changed == (variant != "default")


@each_variant
def test_every_number_of_a_config_can_be_written_down(family, variant):
    config = FAMILIES[family].variant_config(variant)
    assert REMOVED not in config.values()
    assert json.loads(json.dumps(config)) == config


@pytest.mark.parametrize("family", FAMILIES)
def test_the_variants_of_a_family_are_all_different(family):
    record = FAMILIES[family]
    configs = [json.dumps(record.variant_config(name)) for name in record.variant_names]
    assert len(set(configs)) == len(configs)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_stands_under_its_own_name_and_its_class_exists(family):
    assert FAMILIES[family].name == family
    assert hasattr(transformers, FAMILIES[family].auto_class)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_norm_that_is_folded_is_a_site(family):
    record = FAMILIES[family]
    sites = set(record.taps).union(*(stack.taps for stack in record.stacks))
    for variant in record.variant_names:
        assert set(record.folded_norms(variant)) <= sites


def test_a_variant_can_leave_a_field_out():
    record = Family(
        name="some", config={"a": 1, "b": 2}, taps={}, stacks=(), variants={"bare": {"b": REMOVED}}
    )
    assert record.variant_config("bare") == {"a": 1}
    assert record.variant_config("default") == {"a": 1, "b": 2}


def test_a_variant_that_there_is_not_is_an_error():
    with pytest.raises(KeyError, match="nothing"):
        FAMILIES["gpt2"].variant_config("nothing")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_variant_has_a_case(family):
    cases = every_variant(family)
    assert tuple(case.variant for case in cases) == FAMILIES[family].variant_names


@pytest.mark.parametrize("family", SEQUENTIAL)
def test_the_residual_stream_is_the_sum_of_what_is_written_into_it(family):
    for taken in exact_activations(family):
        for layer in range(3):
            pre, attn_out, mid, mlp_out, post = (
                taken[f"blocks.{layer}.{site}"]
                for site in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
            )
            assert distance(pre + attn_out, mid) < EXACT
            assert distance(mid + mlp_out, post) < EXACT


@pytest.mark.parametrize("family", SEQUENTIAL)
def test_what_leaves_a_block_enters_the_next(family):
    for taken in exact_activations(family):
        for layer in range(2):
            post, pre = f"blocks.{layer}.resid_post", f"blocks.{layer + 1}.resid_pre"
            assert torch.equal(taken[post], taken[pre])


@pytest.mark.parametrize("family", [*SEQUENTIAL, "bert", "falcon", "gpt_neox", "t5"])
def test_the_rows_of_every_pattern_sum_to_one(family):
    for taken in exact_activations(family):
        patterns = [tensor for site, tensor in taken.items() if site.endswith("pattern")]
        assert patterns
        for pattern in patterns:
            assert float((pattern.sum(-1) - 1).abs().max()) < EXACT


@pytest.mark.parametrize("family", [*SEQUENTIAL, "falcon", "gpt_neox"])
def test_no_pattern_sees_the_future(family):
    for taken in exact_activations(family):
        for site, pattern in taken.items():
            if site.endswith("pattern"):
                assert not pattern.triu(1).any()


@pytest.mark.parametrize("family", [*SEQUENTIAL, "bert", "falcon", "gpt_neox"])
def test_each_head_writes_what_its_pattern_reads(family):
    """So the taps of values, patterns and heads are where they should be."""
    for taken in exact_activations(family):
        for layer in range(3):
            pattern, value, z = (
                taken[f"blocks.{layer}.attn.{site}"] for site in ("pattern", "v", "z")
            )
            value = value.repeat_interleave(z.shape[2] // value.shape[2], dim=2)
            assert distance(torch.einsum("bhqk,bkhd->bqhd", pattern, value), z) < EXACT


def test_scores_of_gpt2_are_those_of_its_queries_and_keys():
    for taken in exact_activations("gpt2"):
        query, key = taken["blocks.1.attn.q"], taken["blocks.1.attn.k"]
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
        assert distance(scores.tril(), taken["blocks.1.attn.attn_scores"].tril()) < EXACT


def test_doge_masks_keys_beyond_its_window_and_keeps_those_that_its_values_choose():
    kept = FAMILIES["doge"].config["keep_window_size"]
    *_, longest = exact_activations("doge")
    for layer in range(3):
        seen = longest[f"blocks.{layer}.attn.pattern"] > 0
        assert seen.shape[-1] > 2 * kept
        assert bool((seen.sum(-1).diff(dim=-1)[..., : kept - 1] == 1).all())
        assert int(seen.sum(-1).max()) == kept
        last = seen[..., -1, :]
        assert not last[..., -kept:].all(), "a plain sliding window"


def test_cohere2_turns_in_the_layers_with_a_window_alone():
    *_, longest = exact_activations("cohere2")
    for layer, turned in enumerate((True, False, True)):
        query, rotated = (longest[f"blocks.{layer}.attn.{site}"] for site in ("q", "rot_q"))
        assert torch.equal(query, rotated) != turned
