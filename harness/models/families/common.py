"""Sizes of the synthetic checkpoints, pairwise different so that no two axes can be confused.

A tensor transposed, flattened or split along the wrong axis then has a wrong shape instead of
wrong numbers only. Batch sizes are 1 to 3 and prompts up to LENGTH long (measure/prompts.py).
"""

from __future__ import annotations

from typing import Final

VOCAB: Final = 67
LENGTH: Final = 37
WINDOW: Final = 6

LLAMA_SIZES: Final = {
    "vocab_size": VOCAB,
    "max_position_embeddings": LENGTH,
    "hidden_size": 40,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "head_dim": 8,
    "initializer_range": 0.02,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
"""The fields that Llama and its many relatives share."""

IMPLIED_HEAD_SIZES: Final = {
    name: value for name, value in LLAMA_SIZES.items() if name != "head_dim"
}
"""The same for configs that leave the head size to hidden_size / num_attention_heads."""

GROUPED_QUERIES: Final = {"num_attention_heads": 4, "num_key_value_heads": 2}
"""Grouped queries; the implied head size is then 10."""

FAR_EPS: Final = 1e-3
"""A norm's epsilon that no config class has by default, and that synthetic activations feel."""

LINEAR_ROPE: Final = {"rope_type": "linear", "factor": 4.0}
"""Positions divided by four: the rotary scaling that every family reads the same way."""
