"""Which fields can be flipped, and to what."""

import pytest
from transformers import EsmConfig, T5Config

from harness.models.shrinking import tiny_of_type
from harness.models.shrinking.flips import candidates_of, flipped, without_derived

LLAMA = {"model_type": "llama", "num_hidden_layers": 2}


def others(config, name):
    """Give what a field may become; nothing if it is not asked."""
    found = {each.name: each.others for each in candidates_of(config)}
    return list(found.get(name, ()))


def test_a_boolean_becomes_its_opposite_and_a_number_is_left_alone():
    config = {**LLAMA, "attention_bias": False, "mlp_bias": True, "rms_norm_eps": 1e-6}
    found = {each.name: (each.before, each.others) for each in candidates_of(config)}
    assert found == {"attention_bias": (False, (True,)), "mlp_bias": (True, (False,))}


@pytest.mark.parametrize(
    "name",
    [
        "output_attentions", "output_hidden_states", "output_router_logits", "use_cache",
        "return_dict", "torchscript", "gradient_checkpointing", "use_dropout",
        "tie_encoder_decoder", "is_encoder_decoder", "is_decoder", "add_cross_attention",
        "disable_ngram_loss",
        "use_mamba_kernels", "causal", "use_bidirectional_attention", "vision_use_head",
    ],
)  # fmt: skip
def test_what_is_no_field_of_the_models_numbers_is_not_asked(name):
    assert others({**LLAMA, name: False}, name) == []
    assert others({**LLAMA, f"{name[:3]}_plain": False}, f"{name[:3]}_plain") == [True]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden_act", "silu", ["gelu", "gelu_new", "relu"]),
        ("activation_function", "gelu", ["gelu_new", "relu"]),
        ("hidden_activation", "relu", ["gelu", "gelu_new"]),
        ("dense_act_fn", "relu", ["gelu", "gelu_new"]),
        ("feed_forward_proj", "relu", ["gated-gelu"]),
        ("hidden_act", "of my own", []),
        ("projection", "linear", []),
    ],
)
def test_an_activation_becomes_another_one(name, value, expected):
    assert others({**LLAMA, name: value}, name) == expected


def test_a_word_becomes_what_else_its_class_allows_nested_too():
    config = {"model_type": "mpt", "attn_config": {"attn_type": "multihead_attention"}}
    assert others(config, "attn_config.attn_type") == ["multiquery_attention"]
    config = {"model_type": "modernbert", "classifier_pooling": "cls"}
    assert others(config, "classifier_pooling") == ["mean"]


def test_a_flag_that_is_not_set_becomes_true_if_its_class_calls_it_one():
    config = {"model_type": "esm", "emb_layer_norm_before": None, "position_embedding": None}
    assert [(each.name, each.others) for each in candidates_of(config)] == [
        ("emb_layer_norm_before", (True,))
    ]


def test_a_class_whose_annotations_cannot_be_read_still_has_its_booleans(monkeypatch):
    monkeypatch.setitem(EsmConfig.__annotations__, "mask_token_id", "NobodyKnows")
    config = {"model_type": "esm", "emb_layer_norm_before": None, "token_dropped": False}
    assert [each.name for each in candidates_of(config)] == ["token_dropped"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b", "b"], [["b", "b", "a"], ["b", "b", "a"]]),
        (["a", "b", "a"], [["b", "a", "a"]]),
        (["a", "a"], []),
        ([], []),
        ([[["a", "b"], 2]], [[[["b", "a"], 2]], [[["b", "a"], 2]]]),
        ([["a", "b"]], [[["b", "a"]], [["b", "a"]]]),
        ([1, 0], [[0, 1], [0, 1]]),
        ([1, 0, 0], []),  # not one for each layer
        ([5, 7], []),
    ],
)
def test_kinds_of_layers_are_turned_around_and_on_by_one(value, expected):
    assert others({**LLAMA, "layer_types": value}, "layer_types") == expected


def test_a_rotary_type_brings_the_number_that_it_needs_each_kind_of_layer_by_itself():
    rope = {"a": {"rope_type": "default"}, "b": {"rope_type": "linear", "factor": 8.0}}
    config = {**LLAMA, "rope_parameters": rope}
    assert others(config, "rope_parameters.a.rope_type") == [{"rope_type": "linear", "factor": 4.0}]
    assert others(config, "rope_parameters.b.rope_type") == [{"rope_type": "default"}]


def test_flags_beside_a_rotary_type_are_asked():
    rope = {"rope_type": "yarn", "truncate": False, "factor": 32.0}
    assert others({**LLAMA, "rope_parameters": rope}, "rope_parameters.truncate") == [True]


def test_of_a_composite_config_the_part_of_text_is_asked_and_no_other():
    part = {"model_type": "gemma3_text", "attention_bias": False}
    config = {"model_type": "gemma3", "text_config": part, "vision_config": {"use_head": True}}
    assert [each.name for each in candidates_of(config)] == ["text_config.attention_bias"]


def test_the_flipped_config_is_another_and_a_dictionary_goes_beside():
    config = {"a": {"rope_type": "default", "theta": 1.0}, "b": True}
    further = flipped(config, ("a", "rope_type"), {"rope_type": "linear", "factor": 4.0})
    assert further["a"] == {"rope_type": "linear", "factor": 4.0, "theta": 1.0}
    assert flipped(config, ("b",), False)["b"] is False
    assert config == {"a": {"rope_type": "default", "theta": 1.0}, "b": True}


def test_what_a_class_derives_is_left_out_and_what_it_would_not_stays():
    whole = T5Config().to_dict()
    derived = {"dense_act_fn", "is_gated_act", "scale_decoder_outputs"}
    assert set(whole) - set(without_derived(whole)) >= derived
    assert without_derived(whole)["feed_forward_proj"] == "relu"
    assert without_derived(whole)["tie_word_embeddings"] is True
    assert without_derived({**whole, "is_gated_act": True})["is_gated_act"] is True


def test_of_a_config_that_derives_nothing_all_is_left():
    whole = {**tiny_of_type("llama", "AutoModelForCausalLM").config, "of_my_own": False}
    assert without_derived(whole) == whole
    odd = {**LLAMA, "of_my_own": False, "num_attention_heads": 5, "hidden_size": 32}
    assert without_derived(odd) == odd, "the class refuses it, so that nothing is known"
