"""How logits come from the last hidden state: found by trying the ways that are known.

A way is taken only if it gives the logits bit for bit, by the model's own modules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.models.heads import (
    UNKNOWN,
    Convention,
    Head,
    divided,
    module,
    multiplied,
    output_embeddings,
    rebuilt,
    scaled_by_width,
    softcapped,
)
from harness.models.ports.asking import logits_of
from harness.models.sites import LN_FINAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from harness.models.discovery.graph import Graph
    from harness.models.family import Family
    from harness.models.heads import Step

# What a model can raise that has no such module or field, or another shape.
_UNFIT: Final = (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError)
_LAYOUTS: Final = (False, True)


def head_of(
    model: Any, family: Family, inputs: Mapping[str, Any], graph: Graph, *, leaves: int
) -> Head:
    """Give the head of a model whose last block gives the value `leaves` on these inputs.

    UNKNOWN, if the model gives no hidden states, or no known way from them gives its logits.
    """
    try:
        with torch.no_grad():
            output = model(**inputs, output_hidden_states=True)
    except _UNFIT:
        return UNKNOWN
    decodes = getattr(model.config, "is_encoder_decoder", False)
    name = "decoder_hidden_states" if decodes else "hidden_states"
    states = getattr(output, name, None)
    if not states or not isinstance(states[-1], torch.Tensor):
        return UNKNOWN
    logits = logits_of(output)
    finish = _finish(model, family, graph.tensor(leaves), states[-1])
    for steps in _ways(graph, logits):
        for finished in (True, False) if LN_FINAL in family.taps else (True,):
            for sequence_first in _LAYOUTS:
                convention = Convention(finished=finished, sequence_first=sequence_first)
                head = Head(
                    finish=finish if finished else (LN_FINAL,),
                    steps=steps,
                    convention=convention,
                    output=name,
                )
                if _gives(model, replace(family, head=head), states[-1], logits):
                    return head
    return UNKNOWN


def _finish(model: Any, family: Family, leaves: Tensor, state: Tensor) -> tuple[str, ...]:
    """Say whether the last norm stands between the last block and the last hidden state."""
    if LN_FINAL not in family.taps:
        return ()
    try:
        with torch.no_grad():
            normed = model.get_submodule(family.taps[LN_FINAL].module)(leaves)
    except _UNFIT:
        return ()
    return (LN_FINAL,) if torch.equal(normed, state) else ()


def _ways(graph: Graph, logits: Tensor) -> Iterator[tuple[Step, ...]]:
    """Give the ways to logits: by the module that gives them, and those of known families."""
    yield (output_embeddings,)
    given = {
        call.path: len(call.path.split("."))
        for call in graph.recording.calls
        if call.path
        and graph.runs_once(call)
        and call.given is not None
        and torch.equal(graph.tensor(call.given), logits)
    }
    for path in sorted(given, key=given.__getitem__):
        yield (module(path),)
    yield (output_embeddings, softcapped)
    yield (scaled_by_width, output_embeddings)
    for attribute in ("logit_scale", "lm_head_multiplier"):
        yield (output_embeddings, multiplied(attribute))
    yield (output_embeddings, divided("logits_scaling"))


def _gives(model: Any, family: Family, state: Tensor, logits: Tensor) -> bool:
    try:
        with torch.no_grad():
            made = rebuilt(family, model, state, family.head.convention)
    except _UNFIT:
        return False
    return torch.equal(made, logits)
