"""Which layers have a sliding window, read off a config.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def window_of(config: Mapping[str, Any], layer: int) -> int | None:
    """Give how many keys a layer's queries see, themselves included; None where they see all.

    Source: `configuration_<family>.py` in `transformers`, which spell it in five ways.
    """
    window = config.get("sliding_window")
    if "layer_types" in config:
        windowed = config["layer_types"][layer] == "sliding_attention"
    elif "attention_types" in config:  # GPT-Neo: [[["global", "local"], 2]] is twice the two
        kinds = [kind for kinds, times in config["attention_types"] for kind in kinds * times]
        window, windowed = config["window_size"], kinds[layer] == "local"
    elif config.get("sliding_window_pattern"):  # Cohere 2, Gemma 3: every so many sees all
        windowed = bool((layer + 1) % config["sliding_window_pattern"])
    elif config["model_type"] == "qwen2_moe":  # every other of the first layers, not the last ones
        windowed = config["use_sliding_window"] and not layer % 2
        windowed = windowed and layer < config["max_window_layers"]
    elif "use_sliding_window" in config:  # the other Qwens
        windowed = config["use_sliding_window"] and layer >= config["max_window_layers"]
    elif config["model_type"] == "gemma2":
        windowed = layer % 2 == 0
    else:
        windowed = window is not None
    return int(window) if windowed and window is not None else None
