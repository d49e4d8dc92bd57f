"""The experiment: each flip alone, then together; and what is not kept, with its reason."""

from dataclasses import replace

import pytest
import torch

from harness.errors import Unavailable
from harness.models.architectures import architecture_of
from harness.models.checkpoints.shrunk import drawn
from harness.models.shrinking import experiment, tiny_of_type, variants
from harness.models.shrinking.flips import Candidate, flipped


def found_in(model_type, *, variant="default", draw=drawn, **fields):
    """Give what the experiment finds of a type's small config, with more fields."""
    auto_class = architecture_of(model_type, variant).auto_class
    tiny = tiny_of_type(model_type, auto_class)
    return experiment(replace(tiny, config={**tiny.config, **fields}), auto_class, draw=draw)


def only(monkeypatch, *candidates):
    """Let these fields be all that can be flipped: names, and other values."""
    found = [Candidate(path=(name,), before=None, others=others) for name, *others in candidates]
    monkeypatch.setattr(variants, "candidates_of", lambda _: tuple(found))


def test_what_changes_the_logits_is_kept_and_joined():
    flips, config = found_in("llama")
    names = {"hidden_act", "tie_word_embeddings", "rope_parameters.rope_type", "attention_bias"}
    assert {*names, "mlp_bias"} == {each.name for each in flips.changing} == set(flips.joined)
    assert all(each.change > 1e-3 for each in flips.changing)
    assert (flips.idle, dict(flips.failing), flips.untried) == ((), {}, ())
    assert (config["attention_bias"], config["hidden_act"]) == (True, "gelu")


def test_what_nobody_reads_changes_nothing_and_is_not_joined():
    flips, config = found_in("llama", speed_up=False)
    assert flips.idle == ("speed_up",)
    assert config["speed_up"] is False


def test_parameters_of_one_name_are_equal_whatever_is_drawn_for_them():
    flips, _ = found_in("llama", draw=lambda _, initial: torch.rand(initial.shape), speed_up=False)
    assert flips.idle == ("speed_up",)


def test_rounding_is_no_change():
    """Mamba 2's `residual_in_fp32` moves the logits by 1e-8 wherever a module casts to float32."""
    flips, _ = found_in("mamba2")
    assert "residual_in_fp32" in flips.idle
    assert "use_conv_bias" in flips.joined


def test_models_are_built_and_run_in_true_float64(monkeypatch):
    """A rotary table that is made in float32 moves each logit, by 1e-8."""
    seen = []

    def run_once(model):
        tensors = [*model.parameters(), *model.buffers()]
        seen.append({each.dtype for each in tensors} | {torch.zeros(1).float().dtype})
        return torch.zeros(1, 1, 1)

    monkeypatch.setattr(variants, "run_once", run_once)
    found_in("llama")
    assert len(seen) > 5
    assert set().union(*seen) == {torch.float64}


def test_the_first_value_that_changes_the_logits_is_taken():
    """Gemma reads `gelu` as the activation that it has already."""
    flips, config = found_in("gemma")
    assert config["hidden_act"] == "relu"
    assert "hidden_act" in flips.joined


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("num_attention_heads", 5, "StrictDataclass"),
        ("hidden_act", "no such", "KeyError"),
        ("vocab_size", 10**9, "parameters, of which model.embed_tokens"),
        ("rms_norm_eps", float("nan"), "not one finite row"),
        ("vocab_size", 97, "logits (2, 24, 97) instead of (2, 24, 96)"),
    ],
)
def test_what_does_not_build_or_run_or_is_not_finite_is_listed_with_its_reason(
    monkeypatch, name, value, said
):
    only(monkeypatch, (name, value), ("mlp_bias", True))
    flips, config = found_in("llama")
    assert said in flips.failing[name]
    assert flips.joined == ("mlp_bias",)
    assert config[name] != value


def test_a_field_of_which_one_value_fails_and_one_changes_nothing_is_idle(monkeypatch):
    only(monkeypatch, ("hidden_act", "no such", "silu"))
    flips, _ = found_in("llama")
    assert (flips.idle, dict(flips.failing)) == (("hidden_act",), {})


def test_flips_are_joined_in_order_each_if_the_logits_still_change():
    """Falcon's ALiBi leaves no rotary embedding, and its new layers have keys of their own."""
    flips, config = found_in("falcon")
    assert flips.joined[:2] == ("alibi", "new_decoder_architecture")
    assert config["alibi"] is config["new_decoder_architecture"] is config["bias"] is True
    assert flips.apart["multi_query"] == flips.apart["rope_parameters.rope_type"]
    assert flips.apart["multi_query"] == "it changes nothing beside the others"
    assert "has no attribute 'ln_attn'" in flips.apart["parallel_attn"]
    assert set(flips.apart) | set(flips.joined) == {each.name for each in flips.changing}
    assert config["multi_query"] is config["parallel_attn"] is True


def test_the_joined_config_is_the_last_that_ran():
    flips, config = found_in("gpt_neox")
    again = tiny_of_type("gpt_neox", "AutoModelForCausalLM").config
    for flip in flips.changing:
        again = flipped(again, tuple(flip.name.split(".")), flip.after)
    assert config == again
    assert len(flips.joined) == len(flips.changing) == 5


def test_no_flip_is_begun_once_the_time_is_up(monkeypatch):
    monkeypatch.setattr(variants, "SECONDS", -1.0)
    flips, _ = found_in("bert")
    assert flips.untried == ("hidden_act", "tie_word_embeddings")
    assert (flips.tried, flips.joined) == (0, ())


def test_a_flip_that_is_not_joined_in_time_says_so(monkeypatch):
    answers = iter([False, False, False, True])
    monkeypatch.setattr(variants._Trial, "is_over", property(lambda _: next(answers)))
    flips, _ = found_in("bert")
    assert flips.joined == ("hidden_act",)
    assert flips.apart == {"tie_word_embeddings": "the time was up"}


def test_a_small_config_that_does_not_run_in_exact_mode_is_unavailable():
    with pytest.raises(Unavailable, match=r"llama: its small config does not run in exact mode \("):
        found_in("llama", hidden_act="no such")


def test_torchs_generator_and_dtype_are_left_as_they_were_found():
    before = torch.get_rng_state()
    found_in("bert", variant="masked")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32
