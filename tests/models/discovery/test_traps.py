"""Planted traps: names that lie, chains that break, branches that do not add up."""

import pytest
import torch
import transformers

from harness.models import discovery
from harness.models.discovery import blocks, confirming, discovered
from harness.models.family import Family, Tap
from harness.models.layouts import heads
from harness.models.ports.huggingface import TransformersRunner
from tests.models.discovery.tiny import LAYERS, Attention, tiny

PLAIN = {
    "embed": "embed",
    "ln_final.out": "norm",
    "resid_pre": "layers.{i}",
    "ln1.out": "layers.{i}.input_layernorm",
    "attn.q": "layers.{i}.self_attn.q_proj",
    "attn.k": "layers.{i}.self_attn.k_proj",
    "attn.v": "layers.{i}.self_attn.v_proj",
    "attn.z": "layers.{i}.self_attn.o_proj",
    "attn_out": "layers.{i}.self_attn",
    "resid_mid": "layers.{i}.post_attention_layernorm",
    "ln2.out": "layers.{i}.post_attention_layernorm",
    "mlp.pre": "layers.{i}.mlp.gate_proj",
    "mlp.pre_linear": "layers.{i}.mlp.up_proj",
    "mlp.post": "layers.{i}.mlp.down_proj",
    "mlp_out": "layers.{i}.mlp",
    "resid_post": "layers.{i}",
}
OUTSIDE = ("embed", "ln_final.out")
SIZES = {
    "vocab_size": 67,
    "hidden_size": 40,
    "intermediate_size": 44,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def runner_of(model):
    """Give a runner of the sites that are found in a model."""
    return TransformersRunner(discovered(model, stub()), model, norms={})


def stub():
    return Family(name="some", config={}, taps={}, stacks=(), automatic=True)


def found_in(plant):
    return discovered(tiny(plant), stub())


def modules(record, layer=0):
    """Give the module of each site of a layer, and of those outside the layers."""
    prefix = f"blocks.{layer}."
    return {
        site.removeprefix(prefix): tap.module
        for site, tap in record.taps.items()
        if site.startswith(prefix) or site in OUTSIDE
    }


def expected(layer=0, **changed):
    return {site: path.replace("{i}", str(layer)) for site, path in {**PLAIN, **changed}.items()}


def of_config(model_type, auto="AutoModelForCausalLM", **config):
    """Build a model of transformers with random weights that leave no branch near zero."""
    torch.manual_seed(0)
    built = transformers.AutoConfig.for_model(model_type, **config)
    model = getattr(transformers, auto).from_config(built, attn_implementation="eager").eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_class_outside_transformers_is_understood(layer):
    record = found_in("")
    assert modules(record, layer) == expected(layer)
    assert record.attention[f"blocks.{layer}.attn"] == f"layers.{layer}.self_attn"
    assert record.unidentified == {}
    assert record.layer_norm
    assert not record.rotary
    assert not record.takes_position_ids
    assert record.automatic


def test_a_runner_completes_its_own_record():
    model = tiny()
    runner = runner_of(model)
    assert runner.family.taps == discovered(model, stub()).taps
    assert {f"blocks.{layer}.attn.pattern" for layer in range(LAYERS)} <= set(runner.sites)
    assert runner.owner("blocks.0.attn.q") == (
        "layers.0.self_attn.q_proj",
        "layers.0.self_attn",
    )


def test_names_that_lie_are_not_believed():
    record = found_in("names_swapped")
    attention, mlp = "layers.{i}.mlp", "layers.{i}.self_attn"
    assert modules(record) == expected(
        **{
            "attn.q": f"{attention}.v_proj",
            "attn.k": f"{attention}.q_proj",
            "attn.v": f"{attention}.k_proj",
            "attn.z": f"{attention}.o_proj",
            "attn_out": attention,
            "mlp.pre": f"{mlp}.up_proj",
            "mlp.pre_linear": f"{mlp}.gate_proj",
            "mlp.post": f"{mlp}.down_proj",
            "mlp_out": mlp,
        }
    )


def test_a_list_whose_chain_is_broken_is_not_taken():
    record = found_in("broken_chain")
    assert record.taps == {}
    assert record.attention == {}
    assert "found: none" in record.unidentified["blocks"]


def test_a_branch_that_is_not_added_is_missing_and_said_so():
    record = found_in("multiplied")
    assert set(modules(record)) == {*OUTSIDE, "resid_pre", "resid_post"}
    for site in ("attn_out", "mlp_out"):
        assert "not what entered it plus" in record.unidentified[f"blocks.0.{site}"]


def test_a_branch_that_does_not_add_up_on_another_prompt_is_missing_and_said_so():
    record = found_in("drifts")
    assert not {"attn_out", "mlp_out"} & set(modules(record))
    assert "by numbers" in record.unidentified["blocks.0.mlp_out"]
    assert {"resid_pre", "resid_mid", "resid_post", "mlp.pre"} <= set(modules(record))


@pytest.mark.parametrize(
    ("plant", "rotary"), [("", False), ("turned", True), ("grows_by_position", False)]
)
def test_queries_that_are_turned_are_told_from_those_that_grow(plant, rotary):
    runner = runner_of(tiny(plant))
    assert runner.family.rotary == rotary
    assert ("blocks.0.attn.rot_q" in runner.sites) == rotary
    assert {"attn.q", "attn.k", "attn.v"} <= set(modules(runner.family))


def test_two_gates_are_not_guessed_between():
    record = found_in("two_gates")
    assert not {"mlp.pre", "mlp.pre_linear"} & set(modules(record))
    assert "which is the gate" in record.unidentified["blocks.1.mlp.pre"]
    assert "mlp_out" in modules(record)


def test_values_that_the_pattern_does_not_weigh_are_taken_back(monkeypatch):
    projection = blocks.projection

    def swapped(graph, name, factor, block, config):
        tap, why = projection(graph, name, factor, block, config)
        if name == "v":
            tap = Tap(module=tap.module.replace("v_proj", "k_proj"), view=heads)
        return tap, why

    monkeypatch.setattr(blocks, "projection", swapped)
    record = found_in("")
    assert not {"attn.v", "attn.z"} & set(modules(record))
    assert record.attention == {}
    assert record.unidentified["blocks.0.attn.v"] == "the pattern does not weigh v into z"


def test_a_site_that_is_read_elsewhere_than_its_equation_says_is_taken_back(monkeypatch):
    find = blocks._find_branch

    def planted(graph, block, branch, prefix, found):
        find(graph, block, branch, prefix, found)
        found.taps[f"{prefix}.{branch.kind}_out"] = Tap(module=f"{block.call.path}.input_layernorm")

    monkeypatch.setattr(blocks, "_find_branch", planted)
    record = found_in("")
    assert not {"attn_out", "mlp_out"} & set(modules(record))


def test_what_is_raised_in_one_block_hides_no_other(monkeypatch):
    find = discovery.find_in_block

    def planted(graph, block, prefix, found, config):
        if prefix == "blocks.1":
            raise IndexError("planted")
        find(graph, block, prefix, found, config)

    monkeypatch.setattr(discovery, "find_in_block", planted)
    record = found_in("")
    assert modules(record, layer=2) == expected(layer=2)
    assert record.unidentified == {"blocks.1": "looking for it raised IndexError: planted"}


def test_what_cannot_be_read_again_is_not_confirmed(monkeypatch):
    def planted(*_):
        raise RuntimeError("planted")

    monkeypatch.setattr(confirming, "_wrong_attention", planted)
    record = found_in("")
    assert record.taps == {}
    assert record.attention == {}
    assert "planted" in record.unidentified["the second prompt"]


def test_a_model_that_does_not_run_has_no_sites(monkeypatch):
    def broken(*_):
        raise RuntimeError("planted")

    monkeypatch.setattr(Attention, "forward", broken)
    record = found_in("")
    assert record.taps == {}
    assert "planted" in record.unidentified["blocks"]


def test_no_hook_stays():
    model = tiny()
    discovered(model, stub())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_state_space_has_a_mixer_and_no_attention():
    model = of_config("mamba", vocab_size=67, hidden_size=40, num_hidden_layers=2, state_size=8)
    runner = runner_of(model)
    block = ("resid_pre", "ln1.out", "mixer_out", "resid_post")
    inside = [f"blocks.{layer}.{site}" for layer in range(2) for site in block]
    assert runner.sites == ("embed", *inside, "ln_final.out", "logits")
    assert runner.family.unidentified == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_stream_that_is_kept_in_float32_gives_the_same_sites(dtype):
    sizes = {"vocab_size": 67, "hidden_size": 40, "num_hidden_layers": 2, "state_size": 8}
    sites = [
        set(discovered(of_config("mamba", **sizes).to(kind), stub()).taps)
        for kind in (torch.float32, dtype)
    ]
    assert sites[0] == sites[1]


def test_a_softmax_in_float32_is_one_in_a_wider_model_too():
    sizes = {**SIZES, "num_hidden_layers": 2}
    record = discovered(of_config("llama", **sizes).to(torch.float64), stub())
    assert set(record.attention) == {"blocks.0.attn", "blocks.1.attn"}
    assert record.unidentified == {}


def test_a_branch_that_attends_and_does_more_is_not_attention_alone():
    record = found_in("attends_and_more")
    assert "attn_out" not in modules(record)
    reason = "blocks.0.attn_out is made of more than blocks.0.attn.z"
    assert record.unidentified["blocks.0.attn_out"] == reason


def test_layers_of_a_hybrid_differ():
    types = ["conv", "full_attention", "conv"]
    model = of_config("lfm2", **SIZES, num_hidden_layers=3, layer_types=types)
    record = discovered(model, stub())
    assert set(record.attention) == {"blocks.1.attn"}
    mixing = {site for site in record.taps if site.endswith("mixer_out")}
    assert mixing == {"blocks.0.mixer_out", "blocks.2.mixer_out"}
    assert "blocks.1.attn_out" in record.taps
    assert record.unidentified == {}


def test_cross_attention_and_norms_behind_the_branches_stand_in_their_order():
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 40, "vocab_size": 67}
    heads_of = {"encoder_attention_heads": 5, "decoder_attention_heads": 5}
    widths = {"encoder_ffn_dim": 44, "decoder_ffn_dim": 44, "max_position_embeddings": 40}
    tokens = {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    model = of_config("bart", "AutoModelForSeq2SeqLM", **sizes, **heads_of, **widths, **tokens)
    runner = runner_of(model)
    block = [site.split(".", 2)[2] for site in runner.sites if site.startswith("decoder_blocks.0")]
    for before, after in (
        ("resid_mid", "ln1.out"),
        ("ln1.out", "cross_attn.q"),
        ("cross_attn.pattern", "resid_mid_cross"),
        ("resid_mid_cross", "ln2.out"),
        ("ln2.out", "mlp.pre"),
        ("mlp_out", "ln3.out"),
    ):
        assert block.index(before) < block.index(after)
    assert runner.family.head.finish == ()
    crossing = runner.family.attention["decoder_blocks.0.cross_attn"]
    assert crossing == "model.decoder.layers.0.encoder_attn"


@pytest.mark.parametrize(
    ("model_type", "auto", "takes"),
    [
        ("bert", "AutoModelForMaskedLM", True),
        ("roberta", "AutoModelForMaskedLM", False),  # counts from behind the padding token
        ("bloom", "AutoModelForCausalLM", False),  # has no such argument
    ],
)
def test_position_ids_are_given_only_to_who_counts_from_zero(model_type, auto, takes):
    record = discovered(of_config(model_type, auto, **SIZES, num_hidden_layers=2), stub())
    assert record.takes_position_ids == takes


def test_a_place_behind_a_norm_is_no_sum():
    sizes = {**SIZES, "num_hidden_layers": 2}
    behind = discovered(of_config("bert", "AutoModelForMaskedLM", **sizes), stub())
    before = discovered(of_config("llama", **sizes), stub())
    assert behind.sums.keys() == {"blocks.0.resid_mid", "blocks.1.resid_mid"}
    assert behind.sums["blocks.0.resid_mid"] == ("blocks.0.resid_pre", "blocks.0.attn_out")
    posts = {"blocks.0.resid_post", "blocks.1.resid_post"}
    assert before.sums.keys() == behind.sums.keys() | posts
    added = ("blocks.0.resid_pre", "blocks.0.attn_out", "blocks.0.mlp_out")
    assert before.sums["blocks.0.resid_post"] == added


def test_queries_that_are_normed_after_they_were_turned_are_another_site():
    sizes = {**SIZES, "num_hidden_layers": 2, "head_dim": 8}
    turned_last = discovered(of_config("qwen3", **sizes), stub())
    turned_first = discovered(of_config("hunyuan_v1_dense", **sizes), stub())
    assert turned_last.turned == {"blocks.0.attn", "blocks.1.attn"}
    assert turned_first.turned == frozenset()


def test_heads_put_together_of_several_projections_have_no_turned_queries():
    sizes = {**SIZES, "num_key_value_heads": 4, "num_hidden_layers": 2, "n_routed_experts": 4}
    ranks = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4}
    experts = {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
    model = of_config("deepseek_v3", **sizes, **ranks, **experts, v_head_dim=8)
    record = discovered(model, stub())
    assert record.turned == frozenset()
    assert "blocks.0.attn.rot_q" in record.unidentified


def test_a_sink_beside_the_keys_is_seen_in_the_patterns():
    sizes = {**SIZES, "num_hidden_layers": 2, "head_dim": 8}
    shifted = discovered(of_config("gpt_oss", **sizes, num_local_experts=4), stub())
    plain = discovered(of_config("llama", **sizes), stub())
    assert (shifted.sinks, shifted.scores_shifted) == (True, True)
    assert (plain.sinks, plain.scores_shifted) == (False, False)


def test_a_head_that_no_known_way_gives_is_not_known():
    model = of_config("llama", **SIZES, num_hidden_layers=2)
    whole = model.forward

    def twice(*arguments, **more):
        output = whole(*arguments, **more)
        output.logits = output.logits * 2
        return output

    assert discovered(model, stub()).head.is_known
    model.forward = twice
    assert not discovered(model, stub()).head.is_known


def test_streams_side_by_side_are_no_stream():
    sizes = {**SIZES, "num_hidden_layers": 2, "head_dim": 8}
    more = {"num_kv_shared_layers": 0, "vocab_size_per_layer_input": 67, "laurel_rank": 4}
    more |= {"hidden_size_per_layer_input": 8, "activation_sparsity_pattern": [0.0, 0.0]}
    record = discovered(of_config("gemma3n_text", **sizes, **more), stub())
    assert not [site for site in record.taps if site.startswith("blocks")]
    assert "blocks" in record.unidentified


@pytest.mark.parametrize(
    ("site", "shape", "fits"),
    [
        ("embed", (2, 7, 40), True),
        ("embed", (2, 8, 40), False),  # padded to whole windows
        ("embed", (1, 7, 40), False),
        ("pos_embed", (1, 7, 40), True),
        ("blocks.0.mlp.pre", (14, 44), True),
        ("blocks.0.mlp.pre", (28, 44), False),  # a row for each chosen expert
        ("blocks.0.attn.z", (2, 7, 4, 8), True),
        ("blocks.0.attn.z", (14, 1, 4, 8), False),
    ],
)
def test_a_site_has_a_row_for_each_token(site, shape, fits):
    assert confirming._is_laid_out(site, torch.zeros(shape), torch.Size((2, 7))) == fits
