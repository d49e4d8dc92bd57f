"""Inside an MLP: what enters its activation, what multiplies it, and what leaves both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from harness.models.discovery.operations import LAYOUTS, POINTWISE, TOP, plain
from harness.models.family import Tap
from harness.models.layouts import half
from harness.models.ports.routers import routed_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.models.discovery.branches import Branch
    from harness.models.discovery.graph import Graph
    from harness.models.discovery.recording import Call
    from harness.models.discovery.stream import Block

_GATED: Final = 2


@dataclass(frozen=True, slots=True)
class Inner:
    """A site inside an MLP; `whole`: it is all of its value, not a part of it."""

    tap: Tap
    value: int
    whole: bool = True


Inside = tuple["Mapping[str, Inner]", str]


def mlp_taps(graph: Graph, block: Block, branch: Branch) -> Inside:
    """Give the taps inside an MLP by their site, and why those that are not there are not."""
    last = graph.sources(branch.value)
    if len(last) != 1:
        return {}, f"its output is made of {len(last)} products"
    down = graph.innermost(last[0])
    if down is None or down.taken is None or not graph.runs_once(down):
        return {}, "its last linear map is no module that runs once"
    post = down.taken
    if post not in graph.live or down.end > block.call.end or post not in branch.inner:
        return {}, "its last linear map is no module of its own"
    into, why = _into(graph, post)
    out = Inner(Tap(module=down.path, side="in"), post)
    return ({**into, "mlp.post": out}, "") if into else ({}, why)


def _into(graph: Graph, post: int) -> Inside:
    """Give the taps of what enters the activation, and of what multiplies it."""
    calls = [graph.innermost(number) for number in graph.sources(post)]
    found = [call for call in calls if call is not None and call.given is not None]
    if not found or len(found) != len(calls) or not all(map(graph.runs_once, found)):
        return {}, "its first linear maps are no modules that run once"
    given = [call.given for call in found if call.given is not None]
    between = graph.ancestors(post, stop=lambda number: number in given) - set(given)
    names = {graph.made_by(number) for number in between}
    if not names <= POINTWISE | LAYOUTS:
        return {}, f"more than an activation before its last linear map: {', '.join(sorted(names))}"
    if len(found) == 1 and graph.tensor(given[0]).shape == graph.tensor(post).shape:
        return {"mlp.pre": Inner(Tap(module=found[0].path), given[0])}, ""
    if len(found) == 1:
        return _fused(graph, post, found[0])
    if len(found) == _GATED:
        return _gated(graph, post, found)
    return {}, f"{len(found)} linear maps enter its activation"


def _factors(graph: Graph, post: int) -> list[int]:
    """Give the two values whose product leaves the activation."""
    while graph.is_layout(post) and len(graph.live_inputs(post)) == 1:
        (post,) = graph.live_inputs(post)
    factors = graph.live_inputs(post)
    return factors if graph.made_by(post) == "mul" and len(factors) == _GATED else []


def _is_bare(graph: Graph, value: int, call: Call) -> bool:
    """Say whether a value is what a module gives, laid out otherwise at most."""
    while value != call.given and graph.is_layout(value) and len(graph.live_inputs(value)) == 1:
        (value,) = graph.live_inputs(value)
    return value == call.given


def _gated(graph: Graph, post: int, calls: list[Call]) -> Inside:
    """Tell the gate by the activation: the other factor is what its linear map gives."""
    factors = _factors(graph, post)
    bare = [call for call in calls if any(_is_bare(graph, factor, call) for factor in factors)]
    if len(bare) != 1:
        return {}, f"{len(bare)} of its two factors pass no activation: which is the gate?"
    (gate,) = (call for call in calls if call is not bare[0])
    return {
        site: Inner(Tap(module=call.path), call.given)
        for site, call in (("mlp.pre", gate), ("mlp.pre_linear", bare[0]))
        if call.given is not None
    }, ""


def _fused(graph: Graph, post: int, call: Call) -> Inside:
    """Tell which half of one linear map's output is the gate: the other is a bare factor."""
    if call.given is None:
        return {}, "its first linear map gives no tensor"
    whole = graph.tensor(call.given)
    bare = [
        index
        for index in range(_GATED)
        for factor in _factors(graph, post)
        if _is_bare(graph, factor, call)
        and torch.equal(half(index)(whole, None), graph.tensor(factor))  # type: ignore[arg-type]
    ]
    if len(bare) != 1:
        return {}, f"{call.path} is no [gate | up] or [up | gate]"
    return {
        site: Inner(Tap(module=call.path, view=half(index)), call.given, whole=False)
        for site, index in (("mlp.pre", 1 - bare[0]), ("mlp.pre_linear", bare[0]))
    }, ""


def router_tap(graph: Graph, block: Block, branch: Branch) -> tuple[Tap | None, str]:
    """Give the router of a mixture of experts: by its logits the largest are chosen."""
    chosen = [
        operation
        for operation in graph.operations_in(block.call)
        if plain(operation.name) in TOP and branch.inner.intersection(operation.outputs)
    ]
    if not chosen:
        return None, ""
    logits = {number for operation in chosen for number in graph.sources(operation.inputs[0])}
    if len(logits) != 1:
        return None, f"experts are chosen by {len(logits)} products"
    (product,) = logits
    around = [call for call in graph.recording.calls if graph.made_in(product, call)]
    for call in sorted(around, key=lambda call: call.end - call.start):
        if call.taken is not None and graph.runs_once(call) and call.end <= block.call.end:
            return _router(graph, call, product)
    return None, "no module computes the logits by which experts are chosen"


def _router(graph: Graph, call: Call, product: int) -> tuple[Tap | None, str]:
    """Confirm that a router's logits can be read from what it takes and gives."""
    if call.taken is None or call.given is None:
        return None, f"{call.path} gives no tensor"
    given, hidden = graph.tensor(call.given), graph.tensor(call.taken)
    output = (given, None) if call.gives_several else given
    try:
        read = routed_by(call.module, hidden, output)
    except (KeyError, RuntimeError):
        return None, f"{call.path} gives no logits"
    logits = graph.tensor(product)
    same = read.numel() == logits.numel() and torch.allclose(
        read.double().flatten(), logits.double().flatten()
    )
    if same:
        return Tap(module=call.path), ""
    return None, f"{call.path} gives something else than the logits by which experts are chosen"
