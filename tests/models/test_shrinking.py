"""Small configs of a kind: what becomes small, what stays, and that they build and run."""

import inspect

import pytest
import torch
import transformers
from transformers import BertConfig, GPT2Config, LlamaConfig, NystromformerConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from harness.errors import Unavailable
from harness.models.architectures import KINDS, architecture_of
from harness.models.shrinking import (
    building,
    quiet,
    run_once,
    running,
    seeded,
    tiny_of_config,
    tiny_of_type,
)
from harness.models.shrinking.hints import HINTS, Hint
from harness.models.shrinking.running import LARGEST, runs
from harness.models.shrinking.sizes import (
    D_HEAD,
    D_MODEL,
    LAYERS,
    LENGTH,
    N_HEADS,
    VOCABULARY,
    every_kind,
    shrunk,
    size_of,
)
from harness.models.text_config import vocabulary_size

CAUSAL, SEQ2SEQ, MASKED = (auto_class for auto_class, _ in KINDS.values())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("hidden_size", D_MODEL),
        ("n_embd", D_MODEL),
        ("d_model", D_MODEL),
        ("vocab_size", VOCABULARY),
        ("num_hidden_layers", LAYERS),
        ("n_layer", LAYERS),
        ("decoder_layers", LAYERS),
        ("num_attention_heads", N_HEADS),
        ("num_key_value_heads", 2),
        ("head_dim", D_HEAD),
        ("intermediate_size", 48),
        ("moe_intermediate_size", 24),
        ("n_routed_experts", 4),
        ("num_experts_per_tok", 2),
        ("first_k_dense_replace", 1),
        ("q_lora_rank", 6),
        ("qk_rope_head_dim", 4),
        ("max_position_embeddings", LENGTH),
        ("max_encoder_position_embeddings", LENGTH),
        ("original_max_position_embeddings", 9),
        ("sliding_window", 5),
        ("rope_theta", None),
        ("rms_norm_eps", None),
        ("hidden_act", None),
        ("use_cache", None),
    ],
)
def test_a_fields_name_says_its_size(name, size):
    assert size_of(name) == size


@pytest.mark.parametrize("model_type", ["llama", "deepseek_v3", "gemma3", "t5", "mamba2", "led"])
def test_no_number_becomes_larger(model_type):
    with quiet():
        whole = CONFIG_MAPPING[model_type]().to_dict()
    pairs = list(numbers_of(whole, shrunk(whole, layers=2)))
    assert len(pairs) > 5
    assert [pair for pair in pairs if pair[2] > pair[1]] == []


def numbers_of(whole, small, path=""):
    for name, value in whole.items():
        if isinstance(value, dict):
            yield from numbers_of(value, small[name], f"{path}{name}.")
        elif type(value) is int and not name.endswith("token_id"):  # these are places
            yield f"{path}{name}", value, small[name]


def test_what_is_small_already_is_left_alone():
    config = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 50}
    assert shrunk(config, layers=2) == config


@pytest.mark.parametrize(("keys", "left"), [(32, N_HEADS), (8, 2), (1, 1)])
def test_as_many_key_heads_as_query_heads_stay_as_many(keys, left):
    small = shrunk({"num_attention_heads": 32, "num_key_value_heads": keys}, layers=2)
    assert (small["num_attention_heads"], small["num_key_value_heads"]) == (N_HEADS, left)


@pytest.mark.parametrize(("head_dim", "left"), [(64, D_HEAD), (128, 2 * D_HEAD)])
def test_heads_wider_than_the_residual_stream_stay_wider(head_dim, left):
    config = {"hidden_size": 2048, "num_attention_heads": 32, "head_dim": head_dim}
    assert shrunk(config, layers=2)["head_dim"] == left


def test_special_tokens_land_inside_the_vocabulary_at_places_of_their_own():
    names = ("bos", "eos", "pad", "image", "sep", "mask")
    config = {f"{name}_token_id": 128_000 + place for place, name in enumerate(names)}
    small = shrunk({**config, "vocab_size": 128_256, "unk_token_id": None}, layers=2)
    places = [small[f"{name}_token_id"] for name in names]
    assert len(set(places)) == len(places)
    assert all(0 < place < small["vocab_size"] for place in places)
    assert small["unk_token_id"] is None


def test_of_several_end_tokens_one_is_left():
    assert shrunk({"eos_token_id": [128_001, 128_009]}, layers=2)["eos_token_id"] == 2


def test_a_list_of_layers_keeps_each_kind_in_its_order():
    kinds = ["conv", "conv", "full", "conv", "sliding"]
    assert every_kind(kinds, 4) == ["conv", "full", "sliding", "conv"]
    config = {"num_hidden_layers": 5, "layer_types": kinds, "others": [1, 2]}
    small = shrunk(config, layers=3)
    assert small["layer_types"] == ["conv", "full", "sliding"]
    assert small["others"] == [1, 2]


def test_a_list_of_sizes_becomes_small_too():
    small = shrunk({"num_hidden_layers": 4, "attention_window": [512] * 4}, layers=2)
    assert small["attention_window"] == [6, 6]


def test_nested_configs_become_small_too():
    config = {"text_config": {"hidden_size": 4096, "vocab_size": 9000}, "eps": 1e-6}
    small = shrunk(config, layers=2)
    assert small == {"text_config": {"hidden_size": D_MODEL, "vocab_size": VOCABULARY}, "eps": 1e-6}
    assert vocabulary_size(small) == VOCABULARY


# Each with the modules that make it what it is, and what its config is left with.
TELLING = [
    ("llama", CAUSAL, {"LlamaAttention"}, {}),
    ("gemma3_text", CAUSAL, set(), {"layer_types": ["sliding_attention", "full_attention"]}),
    ("deepseek_v3", CAUSAL, {"DeepseekV3MoE", "DeepseekV3MLP"}, {"kv_lora_rank": 6}),
    ("mamba2", CAUSAL, {"Mamba2Mixer"}, {}),
    ("jamba", CAUSAL, {"JambaAttention", "JambaMambaMixer", "JambaSparseMoeBlock"}, {}),
    ("zamba", CAUSAL, {"ZambaAttention", "ZambaMambaMixer"}, {}),
    ("flint", CAUSAL, {"FlintSparseMoeBlock", "FlintMLP"}, {"mlp_only_layers": [0, 1]}),
    ("gpt_neo", CAUSAL, set(), {"attention_layers": ["global", "local"]}),
    ("bart", SEQ2SEQ, {"BartEncoderLayer", "BartDecoderLayer"}, {"decoder_start_token_id": 1}),
    ("bert", MASKED, {"BertSelfAttention"}, {}),
    ("roberta", MASKED, {"RobertaEmbeddings"}, {"max_position_embeddings": 64, "pad_token_id": 3}),
    ("gemma3", CAUSAL, {"Gemma3TextModel", "SiglipVisionModel"}, {}),
    ("mllama", CAUSAL, {"MllamaTextCrossAttention"}, {}),
]


@pytest.mark.parametrize(("model_type", "auto_class", "modules", "fields"), TELLING)
def test_a_small_one_builds_runs_and_has_every_kind_of_module(
    model_type, auto_class, modules, fields
):
    tiny = tiny_of_type(model_type, auto_class)
    model = built(tiny, auto_class)
    run_once(model)
    assert tiny.lost == ()
    assert modules <= {type(module).__name__ for module in model.modules()}
    assert fields.items() <= tiny.config.items()
    assert tiny.parameters == sum(each.numel() for each in model.parameters()) < LARGEST


def built(tiny, auto_class):
    with quiet():
        config = CONFIG_MAPPING[tiny.config["model_type"]].from_dict(dict(tiny.config))
        return getattr(transformers, auto_class).from_config(config).eval()


@pytest.mark.parametrize(
    ("model_type", "auto_class", "told"),
    [("bert", CAUSAL, True), ("bert", MASKED, False), ("reformer", MASKED, False)],
)
def test_what_may_be_either_decodes_where_a_causal_model_is_asked_for(model_type, auto_class, told):
    tiny = tiny_of_type(model_type, auto_class)
    assert tiny.config["is_decoder"] is told
    assert sees_the_future(built(tiny, auto_class)) is not told


@pytest.mark.parametrize(("model_type", "auto_class"), [("xlm", CAUSAL), ("flaubert", MASKED)])
def test_a_class_with_a_word_of_its_own_is_told_by_it(model_type, auto_class):
    assert tiny_of_type(model_type, auto_class).config["causal"] is (auto_class == CAUSAL)


def test_a_class_that_is_never_told_is_not_told():
    assert "is_decoder" not in tiny_of_type("llama", CAUSAL).config


def test_a_twin_stays_as_it_was_given():
    assert tiny_of_config(BertConfig(), CAUSAL).config["is_decoder"] is False


def sees_the_future(model):
    tokens = torch.arange(4, 28)[None]
    other = tokens.clone()
    other[0, -1] = 40
    with torch.no_grad():
        return not torch.allclose(*(model(each).logits[:, 0] for each in (tokens, other)))


def test_what_is_lost_is_named(monkeypatch):
    monkeypatch.setattr(building, "_DEPTHS", (2,))  # Flint's first two layers have no experts
    assert "FlintSparseMoeBlock" in tiny_of_type("flint", CAUSAL).lost


def test_a_twin_keeps_all_that_is_no_size():
    config = GPT2Config(
        activation_function="relu",
        layer_norm_epsilon=1e-3,
        scale_attn_by_inverse_layer_idx=True,
        initializer_range=0.5,
    )
    tiny = tiny_of_config(config, CAUSAL).config
    assert tiny["activation_function"] == "relu"
    assert tiny["layer_norm_epsilon"] == 1e-3
    assert tiny["scale_attn_by_inverse_layer_idx"] is True
    assert config.n_embd == 768, "the config that was given is left alone"
    assert tiny["n_embd"] == D_MODEL


def test_what_speaks_of_files_is_left_out():
    config = LlamaConfig(auto_map={"AutoConfig": "a.B"}, quantization_config={"bits": 4})
    tiny = tiny_of_config(config, CAUSAL)
    assert {"auto_map", "quantization_config", "dtype"} & set(tiny.config) == set()


def test_a_hint_is_not_followed_where_a_twin_builds_without(monkeypatch):
    monkeypatch.setitem(HINTS, "gpt2", Hint("a test", {"activation_function": "relu"}))
    assert tiny_of_config(GPT2Config(), CAUSAL).config["activation_function"] == "gelu_new"
    assert tiny_of_type("gpt2", CAUSAL).config["activation_function"] == "relu"


def test_what_cannot_be_built_is_unavailable_with_its_first_reason(monkeypatch):
    reasons = iter(range(100))

    def refuse(*_):
        raise ValueError(f"reason {next(reasons)}")

    monkeypatch.setattr(building, "runs", refuse)
    with pytest.raises(Unavailable, match=r"llama: .*\(ValueError: reason 0\)"):
        tiny_of_type("llama", CAUSAL)
    assert next(reasons) > 1


def test_a_class_without_defaults_is_unavailable(monkeypatch):
    def refuse(_):
        raise TypeError("no default")

    monkeypatch.setattr(building, "stated", refuse)
    with pytest.raises(Unavailable, match=r"own defaults do not build a config \(no default\)"):
        tiny_of_type("llama", CAUSAL)


def test_what_does_not_become_small_is_refused_before_anything_is_allocated(monkeypatch):
    def seen():
        raise AssertionError("it was built in earnest")

    monkeypatch.setattr(running, "seeded", seen)
    monkeypatch.setattr(building, "shrunk", lambda config, **_: dict(config))
    with pytest.raises(Unavailable, match=r"ValueError: \d{9,} parameters, of which model\.\S+"):
        tiny_of_config(LlamaConfig(), CAUSAL)


def test_logits_that_are_not_finite_are_refused():
    model = built(tiny_of_config(GPT2Config(n_layer=1), CAUSAL), CAUSAL)
    run_once(model)
    with torch.no_grad():
        model.transformer.ln_f.weight[0] = float("nan")
    with pytest.raises(ValueError, match="not one finite row"):
        run_once(model)


def test_a_small_vocabulary_is_not_overrun():
    model = built(tiny_of_config(GPT2Config(n_layer=1, vocab_size=11), CAUSAL), CAUSAL)
    assert model.config.vocab_size == 11
    run_once(model)


def test_torchs_generator_is_left_as_it_was_found():
    before = torch.get_rng_state()
    tiny_of_type("gpt2", CAUSAL)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_gives_the_same_numbers_whatever_came_before():
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with seeded():
            drawn.append(torch.randn(3))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("model_type", sorted(HINTS))
def test_a_hint_is_needed(model_type, monkeypatch):
    found = architecture_of(model_type, "default")
    assert found is not None, f"transformers has no {model_type}: the hint is stale"
    monkeypatch.setattr(building, "SECONDS", 20.0)
    helped = tiny_of_type(model_type, found.auto_class)
    monkeypatch.delitem(HINTS, model_type)
    assert lacks(model_type, found.auto_class) - set(helped.lost), (
        f"{model_type} builds without its hint, with every kind of module: the hint is stale"
    )


def lacks(model_type, auto_class):
    """Give what a type lacks: kinds of modules, or a config that builds at all."""
    try:
        return set(tiny_of_type(model_type, auto_class).lost)
    except Unavailable as error:
        return {str(error)}


@pytest.mark.parametrize("model_type", sorted(HINTS))
def test_a_hint_names_only_fields_that_its_config_knows(model_type):
    with quiet():
        config = CONFIG_MAPPING[model_type]()
    assert unknown(HINTS[model_type].fields, config) == []


def unknown(fields, config):
    """Give the fields that neither a config class nor a nested one has."""
    found = []
    known = {
        *inspect.signature(type(config).__init__).parameters,
        *config.attribute_map,
        *config.to_dict(),
    }
    for name, value in fields.items():
        inner = getattr(config, name, None)
        if name not in known:
            found.append(name)
        elif isinstance(value, dict) and hasattr(inner, "to_dict"):
            found += unknown(value, inner)
    return found


def test_a_field_that_no_config_knows_is_found():
    with quiet():
        config = CONFIG_MAPPING["gemma3"]()
    fields = {"mm_tokens_per_image": 4, "speed": 1, "text_config": {"hidden_size": 1, "colour": 2}}
    assert unknown(fields, config) == ["speed", "colour"]


def test_a_type_that_reads_prompts_of_one_length_only_is_not_had():
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    lengths = {"segment_means_seq_len": 24, "num_landmarks": 4, "num_attention_heads": 4}
    config = NystromformerConfig(**sizes, **lengths, max_position_embeddings=24)
    with pytest.raises(ValueError, match="on a prompt of 1 token"):
        runs(config, "AutoModelForMaskedLM")
