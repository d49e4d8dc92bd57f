"""Backends: ways to compute the same attention, and the same graph, agree."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.case import EXACT, Prompt
from harness.errors import Refused
from harness.measure.probes.model import Owed
from harness.measure.probes.padding import SIDES, padded, real_part
from harness.models.ports.asking import Asking, logits_of
from harness.models.ports.huggingface import TransformersRunner
from harness.models.sites import LOGITS, ROUTER, within_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from harness.measure.probes.model import Activations, Model

COMPILED_ON: Final = "bank:longest"
COMPILER: Final = "aot_eager"
_PADS: Final = 3


def backends(model: Model, prompt: Prompt) -> Iterator[Owed]:
    """Hold fused attention against eager, and the compiled graph against the one that ran.

    With no mask, a mask of ones, and padding on each side: each may take another kernel or another
    mask, and each library function that makes masks decides by what it is given. Of a padded
    prompt the real positions count.

    Of eager models a graph is compiled, by `aot_eager`, which traces and functionalises as every
    backend does and leaves the kernels as they are: what it gets wrong is wrong in all. That takes
    as long as a hundred forward passes (2 s, where inductor takes 10), so it is asked on the
    longest prompt of the bank, and by default of each family once. Not of a mixture of experts,
    whose graph breaks at every expert (20 s), nor in exact mode, which a traced graph goes past.
    """
    if model.cell.loading_mode == "hf_eager":
        if reason := why_not_compiled(model):
            raise Refused(reason)
        if prompt.origin == COMPILED_ON:
            yield Owed(
                check="compiled",
                actual={LOGITS: compiled_logits(model, prompt)},
                expected={LOGITS: model.logits(prompt)},
            )
        return
    eager = replace(model, runner=model.reference.runner)
    for check, asked, asking, real in ways(model, prompt):
        actual = model.run(asked, asking)
        expected = eager.run(asked, asking, sites=tuple(actual))
        yield Owed(
            check=check,
            actual=cut(model, actual, real),
            expected=cut(model, expected, real),
        )


def ways(model: Model, prompt: Prompt) -> Iterator[tuple[str, Prompt, Asking, slice]]:
    """Give the ways of asking that take different paths, each with its name and what is real."""
    every = slice(0, len(prompt.tokens[0]))
    yield "no mask", prompt, Asking(), every
    yield "mask of ones", prompt, Asking(mask=True), every
    length = min(every.stop, model.vocabulary.max_length - _PADS)
    short = Prompt.unpadded(tuple(row[:length] for row in prompt.tokens), origin=prompt.origin)
    for side in SIDES:
        start = _PADS if side == "left" else 0
        asked = padded(short, side=side, by=_PADS, pad=model.pad)
        asking = Asking(mask=True, decoder=short)
        yield f"padded on the {side}", asked, asking, slice(start, start + length)


def cut(model: Model, taken: Mapping[str, Tensor], real: slice) -> Activations:
    """Cut tensors down to their real positions."""
    return {
        site: real_part(tensor, site, real.start, real.stop, in_decoder=model.is_of_decoder(site))
        for site, tensor in taken.items()
    }


def why_not_compiled(model: Model) -> str:
    """Say why no graph is compiled of a model; nothing if one is."""
    if model.cell.dtype == EXACT:
        return "a compiled graph goes past exact mode; it is held in float32"
    if any(within_block(site) == ROUTER for site in model.sites):
        return "the graph of a mixture breaks at every expert, and takes 20 s to compile"
    return ""


def compiled_logits(model: Model, prompt: Prompt) -> Tensor:
    """Give the logits [batch, pos, vocab] of the compiled model, and leave nothing compiled.

    Raises:
        Refused: the model is not one of `transformers`.
    """
    if not isinstance(model.runner, TransformersRunner):
        message = f"{type(model.runner).__name__} is not compiled"
        raise Refused(message)
    forward: Any = torch.compile(model.runner.model.forward, backend=COMPILER, dynamic=False)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own, on what it does not support
            return logits_of(forward(**model.runner.inputs(prompt)))
    finally:
        torch.compiler.reset()
