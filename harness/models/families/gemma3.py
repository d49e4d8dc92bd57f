"""Gemma 3, text only. Source: `transformers.models.gemma3.modeling_gemma3`."""

from __future__ import annotations

from harness.models.families.common import FAR_EPS, GROUPED_QUERIES, LLAMA_SIZES, WINDOW
from harness.models.families.decoder import LAYER, SCALED_EMBED, llama_like
from harness.models.family import REMOVED, Tap
from harness.models.heads import Head, output_embeddings, softcapped

FAMILY = llama_like(
    "gemma3",
    config={
        **LLAMA_SIZES,
        **GROUPED_QUERIES,
        "head_dim": 14,
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        # Layers that see everything turn by the first base, layers with a window by the second.
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        # Not the head size, as in gemma-3-27b.
        "query_pre_attn_scalar": 12,
        "sliding_window": WINDOW,
        "sliding_window_pattern": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
    },
    variants={
        # As in gemma-3-4b: positions are divided, in the layers that see everything only.
        "linear_rope": {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        # Published are none. transformers 5.23 caps the logits, and does not read the other one.
        "final_softcap": {"final_logit_softcapping": 5.0},
        "attn_softcap": {"attn_logit_softcapping": 2.0},
        "window_4": {"sliding_window": 4},
        "off_default": {
            "hidden_activation": "relu",
            "rms_norm_eps": FAR_EPS,
            "rope_theta": 50000.0,
            "rope_local_base_freq": 20000.0,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
        "pattern_3": {
            "layer_types": REMOVED,
            "sliding_window_pattern": 3,
        },
    },
    unexercised={
        "use_bidirectional_attention": "a Gemma 3 that sees the future is an encoder "
        "(EmbeddingGemma): another family, since a family is causal or not",
        "rope_parameters.sliding_attention.rope_type": "transformers 4 cannot spell it: its layers "
        "with a window are never scaled",
    },
    taps={
        "attn_out": Tap(module=f"{LAYER}.post_attention_layernorm"),
        "mlp_out": Tap(module=f"{LAYER}.post_feedforward_layernorm"),
    },
    ln2="pre_feedforward_layernorm",
    embed=SCALED_EMBED,
    norm_offset=True,
    head=Head(steps=(output_embeddings, softcapped)),
)
