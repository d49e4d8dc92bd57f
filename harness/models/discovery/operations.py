"""Kinds of torch's own operations, by the names they have below all of its spellings."""

from __future__ import annotations

from typing import Final

CONTRACTIONS: Final = frozenset(
    {
        "mm",
        "bmm",
        "addmm",
        "baddbmm",
        "addbmm",
        "linear",
        "matmul",
        "convolution",
        "_grouped_mm",
        "_scaled_dot_product_attention_math",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    }
)
"""Products that sum over an axis: where one value ends and another begins."""

ROWS_KEPT: Final = frozenset(
    {
        "view",
        "_unsafe_view",
        "_reshape_alias",
        "reshape",
        "slice",
        "unsqueeze",
        "squeeze",
        "clone",
        "contiguous",
        "detach",
        "alias",
        "_to_copy",
    }
)
"""Layouts that keep the order of the last axis' rows where their number stays."""

LAYOUTS: Final = ROWS_KEPT | {
    "transpose",
    "t",
    "permute",
    "expand",
    "select",
    "split",
    "split_with_sizes",
    "chunk",
    "unbind",
    "index",
    "repeat",
    "unsafe_split",
    "unsafe_chunk",
}
"""What lays the same numbers out in another way, and changes none of them."""

POINTWISE: Final = frozenset(
    {
        "mul",
        "add",
        "sub",
        "div",
        "neg",
        "pow",
        "exp",
        "log",
        "log1p",
        "abs",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "sigmoid",
        "tanh",
        "erf",
        "relu",
        "relu6",
        "gelu",
        "silu",
        "elu",
        "leaky_relu",
        "mish",
        "softplus",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "log_sigmoid_forward",
        "expm1",
        "square",
        "where",
        "maximum",
        "minimum",
        "clamp",
        "clamp_min",
        "clamp_max",
        "threshold",
        "gt",
        "lt",
        "ge",
        "le",
        "prelu",
        "_prelu_kernel",
        "native_dropout",
    }
)
"""What computes each number from the numbers at the same place."""

CONSTANT: Final = frozenset(
    {
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "rand_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "new_empty_strided",
        "zero",
    }
)
"""What takes of a tensor its shape alone."""

SOFTMAXES: Final = frozenset({"_softmax", "_safe_softmax"})
TOP: Final = frozenset({"topk", "sort", "kthvalue"})
NORMALISING: Final = frozenset(
    {
        "mean",
        "var",
        "var_mean",
        "sum",
        "rsqrt",
        "norm",
        "linalg_vector_norm",
        "native_layer_norm",
        "native_group_norm",
        "_fused_rms_norm",
    }
)
"""What a norm is made of, beside what is pointwise."""


def plain(name: str) -> str:
    """Give the name without the mark of an operation that writes where it reads."""
    return name.removesuffix("_")
