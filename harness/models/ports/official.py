"""Under which official name `HookedTransformer` loads each family, and what it knows by name.

It takes no folder, only names of models that it knows. For some names it reads the numbers in the
config, for others it writes them down itself. A checkpoint of another size is loaded under such a
name with its own sizes put in. Other numbers that it writes down (a window, a softcap) are put in
only where they are what the official model publishes: where they are not, that is the port's
fault and stays to be seen. What is the same in all checkpoints of a family (activation, eps, the
place of norms) is always TransformerLens' own. Source: `convert_hf_model_config` in
`transformer_lens.loading_from_pretrained`, 2.9 to 3.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from harness.errors import Refused, Unavailable
from harness.models.windows import window_of

# Reads a number of TransformerLens' config out of a checkpoint's config.json.
Reader = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A number that TransformerLens writes down: what it is for the official model, and here."""

    value: object
    read: Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Official:
    """An official name, and what TransformerLens does not read from the config under it.

    `sizes` are put into its config always, `numbers` where they are as published. `config` is
    what its config.json has besides, and TransformerLens reads.
    """

    name: str
    config: Mapping[str, object] = field(default_factory=dict)
    sizes: Mapping[str, Reader] = field(default_factory=dict)
    numbers: Mapping[str, Published] = field(default_factory=dict)


def official_of(family: str, variant: str) -> Official:
    """Give the official model under whose name a family's variant is loaded.

    Raises:
        Refused: no release of TransformerLens has a HookedTransformer for the family.
    """
    if family not in _OFFICIAL:
        message = f"HookedTransformer has no architecture {family} in any release"
        raise Refused(message)
    return _BY_VARIANT.get((family, variant), _OFFICIAL[family])


def fit(cfg: Any, official: Official, config: Mapping[str, Any]) -> None:
    """Put a checkpoint's numbers into TransformerLens' config of an official model.

    Raises:
        Unavailable: the release has a number in its code that the checkpoint has otherwise.
    """
    for name, read in official.sizes.items():
        setattr(cfg, name, read(config))
    for name, number in official.numbers.items():
        wanted = number.read(config)
        if not hasattr(cfg, name):
            if wanted != number.value:
                message = (
                    f"HookedTransformer's config has no {name} in this release: what is in its "
                    f"code is {number.value} of {official.name}, and the checkpoint has {wanted}"
                )
                raise Unavailable(message)
        elif getattr(cfg, name) == number.value:
            setattr(cfg, name, wanted)


def _of(name: str) -> Reader:
    return lambda config: config[name]


def _off_if_none(name: str) -> Reader:
    """Read a softcap; TransformerLens' -1 is none."""

    def read(config: Mapping[str, Any]) -> float:
        return -1.0 if config[name] is None else config[name]

    return read


def _d_head(config: Mapping[str, Any]) -> int:
    implied = config["hidden_size"] // config["num_attention_heads"]
    return int(config.get("head_dim") or implied)


def _attn_scale(config: Mapping[str, Any]) -> float:
    return math.sqrt(config.get("query_pre_attn_scalar") or _d_head(config))


def _grouped(config: Mapping[str, Any]) -> int | None:
    """Read the number of key-value heads; TransformerLens' None is one for each query head."""
    found: int = config["num_key_value_heads"]
    return None if found == config["num_attention_heads"] else found


def _kinds_of_layers(config: Mapping[str, Any]) -> list[str]:
    layers = range(config["num_hidden_layers"])
    return ["global" if window_of(config, layer) is None else "local" for layer in layers]


def _rope_factor(config: Mapping[str, Any]) -> float:
    return float((config["rope_scaling"] or {}).get("factor", 1.0))


def _of_rope(name: str) -> Reader:
    return lambda config: config["rope_scaling"][name]


_LLAMA_SIZES: Final[Mapping[str, Reader]] = {
    "d_model": _of("hidden_size"),
    "d_head": _d_head,
    "n_heads": _of("num_attention_heads"),
    "n_key_value_heads": _grouped,
    "d_mlp": _of("intermediate_size"),
    "n_layers": _of("num_hidden_layers"),
    "n_ctx": _of("max_position_embeddings"),
    "d_vocab": _of("vocab_size"),
    "d_vocab_out": _of("vocab_size"),
}
# Gemma's attention is written for groups of queries, also for groups of one.
_GEMMA_SIZES: Final = {**_LLAMA_SIZES, "n_key_value_heads": _of("num_key_value_heads")}


def _llama_numbers(*, d_head: int, rope_theta: float) -> Mapping[str, Published]:
    """Give what follows from the published head size, and the published rotary base."""
    return {
        "rotary_dim": Published(value=d_head, read=_d_head),
        "attn_scale": Published(value=math.sqrt(d_head), read=_attn_scale),
        "rotary_base": Published(value=rope_theta, read=_of("rope_theta")),
    }


_OFFICIAL: Final[Mapping[str, Official]] = {
    "gpt2": Official(
        name="gpt2", sizes={"d_mlp": lambda config: config["n_inner"] or 4 * config["n_embd"]}
    ),
    "gpt_neo": Official(
        name="EleutherAI/gpt-neo-125M",
        sizes={"d_mlp": lambda config: config["intermediate_size"] or 4 * config["hidden_size"]},
    ),
    "gptj": Official(
        name="EleutherAI/gpt-j-6B",
        sizes={"d_mlp": lambda config: config["n_inner"] or 4 * config["n_embd"]},
    ),
    "gpt_neox": Official(name="EleutherAI/pythia-70m"),
    "opt": Official(name="facebook/opt-125m"),
    "bloom": Official(name="bigscience/bloom-560m"),
    # For the names of Llama itself all is written down; Yi is read by the same branch's rest.
    "llama": Official(name="01-ai/Yi-6B"),
    "mistral": Official(name="mistralai/Mistral-7B-v0.1"),
    "mixtral": Official(name="mistralai/Mixtral-8x7B-v0.1"),
    "qwen2": Official(name="Qwen/Qwen2-0.5B"),
    "qwen3": Official(name="Qwen/Qwen3-0.6B"),
    "phi": Official(name="microsoft/phi-1_5"),
    "phi3": Official(name="microsoft/Phi-3-mini-4k-instruct"),
    "gemma": Official(
        name="google/gemma-2b",
        sizes=_GEMMA_SIZES,
        numbers=_llama_numbers(d_head=256, rope_theta=10000.0),
    ),
    # Of Gemma-2's sizes only 27b scales attention by another number than the head size.
    "gemma2": Official(
        name="google/gemma-2-27b",
        sizes=_GEMMA_SIZES,
        numbers={
            **_llama_numbers(d_head=128, rope_theta=10000.0),
            "attn_scale": Published(value=math.sqrt(144), read=_attn_scale),
            "window_size": Published(value=4096, read=_of("sliding_window")),
            "attn_types": Published(value=["local", "global"] * 23, read=_kinds_of_layers),
            "attn_scores_soft_cap": Published(
                value=50.0, read=_off_if_none("attn_logit_softcapping")
            ),
            "output_logits_soft_cap": Published(
                value=30.0, read=_off_if_none("final_logit_softcapping")
            ),
        },
    ),
    "gemma3": Official(
        name="google/gemma-3-1b-pt",
        sizes=_GEMMA_SIZES,
        numbers={
            **_llama_numbers(d_head=256, rope_theta=1000000),
            "rotary_base_local": Published(value=10000, read=_of("rope_local_base_freq")),
            "rotary_scaling_factor": Published(value=1.0, read=_rope_factor),
            "window_size": Published(value=512, read=_of("sliding_window")),
            "attn_types": Published(
                value=[("global" if layer % 6 == 5 else "local") for layer in range(26)],  # noqa: PLR2004
                read=_kinds_of_layers,
            ),
            "output_logits_soft_cap": Published(
                value=-1.0, read=_off_if_none("final_logit_softcapping")
            ),
        },
    ),
    "olmo": Official(
        name="allenai/OLMo-1B-hf",
        sizes=_LLAMA_SIZES,
        numbers=_llama_numbers(d_head=128, rope_theta=10000.0),
    ),
    "olmo2": Official(
        name="allenai/OLMo-2-0425-1B",
        sizes=_LLAMA_SIZES,
        numbers=_llama_numbers(d_head=128, rope_theta=500000.0),
    ),
    "olmo3": Official(name="allenai/Olmo-3-1025-7B"),
    "olmoe": Official(name="allenai/OLMoE-1B-7B-0924"),
    "gpt_oss": Official(name="openai/gpt-oss-20b"),
    "bert": Official(name="bert-base-cased"),
    "t5": Official(name="t5-small", config={"n_positions": 512}),
}

# Llama 3's rotary scaling: only under names of Llama itself do all releases have it.
_BY_VARIANT: Final[Mapping[tuple[str, str], Official]] = {
    ("llama", "llama3_rope"): Official(
        name="meta-llama/Llama-3.2-1B",
        sizes=_LLAMA_SIZES,
        numbers={
            **_llama_numbers(d_head=64, rope_theta=500000.0),
            "NTK_by_parts_factor": Published(value=32.0, read=_of_rope("factor")),
            "NTK_by_parts_low_freq_factor": Published(value=1.0, read=_of_rope("low_freq_factor")),
            "NTK_by_parts_high_freq_factor": Published(
                value=4.0, read=_of_rope("high_freq_factor")
            ),
            "NTK_original_ctx_len": Published(
                value=8192, read=_of_rope("original_max_position_embeddings")
            ),
        },
    ),
}
