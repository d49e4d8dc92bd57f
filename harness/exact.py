"""True float64: every low-precision dtype that a library asks for becomes float64.

Plain `dtype=float64` is not enough: Llama's norm and every rotary embedding cast to float32
inside. Build *and* run a model under `true_float64`, since rotary tables are made at
construction. What it cannot reach: constants made at import, and `torch.jit.script`ed functions
(GPTBigCode's softmax in transformers 4: 3e-8) unless the process was started with PYTORCH_JIT=0.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOW: Final = frozenset({torch.float32, torch.float16, torch.bfloat16})

# These read bytes as the dtype they are given: another dtype would be another number.
# transformers 4 loads safetensors through them.
_REINTERPRETING: Final[tuple[object, ...]] = (torch.frombuffer, torch.asarray)

_CASTS: Final = frozenset({torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16})


class _PromoteToFloat64(TorchFunctionMode):
    """Replaces every low-precision dtype argument by float64, positional ones too."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func in _REINTERPRETING or (func is torch.Tensor.view and _names_a_dtype(args, kwargs)):
            return func(*args, **kwargs)
        if func in _CASTS:
            return args[0].double()
        if not _names_a_dtype(args, kwargs):  # nearly every call, of thousands in a forward pass
            return func(*args, **kwargs)
        return func(
            *(torch.float64 if _is_low(value) else value for value in args),
            **{name: torch.float64 if _is_low(value) else value for name, value in kwargs.items()},
        )


def _is_low(value: object) -> bool:
    return isinstance(value, torch.dtype) and value in _LOW


def _names_a_dtype(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    for value in args:
        if isinstance(value, torch.dtype):
            return True
    return any(isinstance(value, torch.dtype) for value in kwargs.values()) if kwargs else False


@contextmanager
def true_float64() -> Iterator[None]:
    """Build and run models in true float64 inside; leave torch as it was found.

    The default dtype is float64 inside, since some releases fill masks that they make without a
    dtype with `finfo(float64).min`.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _PromoteToFloat64():
            yield
    finally:
        torch.set_default_dtype(before)
