from dataclasses import replace

import pytest

from harness.coverage import faults_in
from harness.measure.experiments import coverage_of
from harness.models.families import FAMILIES

NAMES = (
    "activation_function",
    "attn_pdrop",
    "bos_token_id",
    "hidden_size",
    "initializer_range",
    "layer_norm_epsilon",
    "n_ctx",
    "n_embd",
    "n_head",
    "n_inner",
    "reorder_and_upcast_attn",
)
REASONS = {"layer_norm_epsilon": "planted", "n_inner": "stale"}


def found_in(family, *names):
    """Give the named fields of a record that stands in for the family of its name."""
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, family.name, family)
        fields = coverage_of(family, step=steps.append, names=names)
    assert steps == [field.name for field in fields]
    return {field.name: field for field in fields}


@pytest.fixture(scope="module")
def found():
    """Give the fields of a GPT-2 with one variant: another activation, and an idle dropout."""
    variants = {"relu": {"activation_function": "relu", "attn_pdrop": 0.5}}
    family = replace(FAMILIES["gpt2"], variants=variants, unexercised=REASONS)
    return found_in(family, *NAMES)


def test_a_field_away_from_its_default_is_exercised_by_the_variant_that_sets_it(found):
    assert found["activation_function"].exercised_by == "relu"
    assert found["activation_function"].effect == "logits"


def test_a_field_that_matters_and_is_at_its_default_is_not_exercised(found):
    assert found["layer_norm_epsilon"].matters
    assert not found["layer_norm_epsilon"].exercised
    assert found["layer_norm_epsilon"].shown_by == "default: 1e-05 → 2e-05"


@pytest.mark.parametrize("name", ["attn_pdrop", "initializer_range", "bos_token_id", "n_ctx"])
def test_a_field_without_effect_does_not_count_though_a_variant_sets_it(found, name):
    assert found[name].effect == "none"
    assert not found[name].exercised


def test_a_width_is_exercised_by_its_shapes(found):
    assert (found["n_inner"].effect, found["n_inner"].exercised_by) == ("parameters", "default")


def test_a_field_whose_default_cannot_be_run_is_exercised_where_another_value_is_felt(found):
    assert FAMILIES["gpt2"].config["n_embd"] % 12, "so that the default of 12 heads raises"
    assert found["n_head"].exercised_by == "default"


def test_a_field_that_moves_only_rounding_is_told_apart(found):
    assert found["reorder_and_upcast_attn"].effect == "rounding"


def test_a_field_of_two_names_is_one(found):
    assert "n_embd" in found
    assert "hidden_size" not in found


def test_a_reason_stands_where_the_field_is_not_exercised_and_is_stale_where_it_is(found):
    assert found["layer_norm_epsilon"].reason == "planted"
    (line,) = [
        line for line in faults_in(list(found.values()), {"gpt2": REASONS}) if "stale" in line
    ]
    assert line.startswith("gpt2: n_inner: stale reason, variant default exercises it")


def test_a_field_that_another_one_hides_is_not_exercised():
    qwen2 = replace(FAMILIES["qwen2"], variants={}, unexercised={})
    assert qwen2.config["sliding_window"], "stated, away from the default of None"
    assert not qwen2.config["use_sliding_window"], "and without effect"
    found = found_in(qwen2, "sliding_window", "use_sliding_window")
    assert not found["sliding_window"].exercised
    assert found["use_sliding_window"].matters


def test_a_list_of_layers_does_not_hide_what_it_is_derived_from():
    gemma3 = replace(FAMILIES["gemma3"], variants={}, unexercised={})
    found = found_in(gemma3, "sliding_window_pattern", "num_hidden_layers")
    assert not found["sliding_window_pattern"].exercised
    assert found["sliding_window_pattern"].shown_by.startswith("default without layer_types")
    assert found["num_hidden_layers"].exercised_by == "default"
