"""The sites outside the blocks: embeddings, and the norms before the head."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch

from harness.models.family import Tap
from harness.models.layouts import Times, one_row

if TYPE_CHECKING:
    from collections.abc import Collection

    from harness.models.discovery.found import Found
    from harness.models.discovery.graph import Graph
    from harness.models.discovery.recording import Call
    from harness.models.discovery.stream import Block

_BATCH_POS_D: Final = 3


def find_embeddings(graph: Graph, block: Block, tokens: Collection[int], found: Found) -> None:
    """Find what tokens and positions write into the stream, and the norm behind them."""
    ancestors = graph.ancestors(block.enters)
    token = [
        operation.outputs[0]
        for operation in graph.recording.operations
        if operation.name == "embedding"
        and operation.inputs[-1] in tokens
        and operation.outputs[0] in ancestors
    ]
    if len(token) != 1:
        found.missing["embed"] = f"{len(token)} embeddings of the tokens reach the first block"
        return
    _find_embed(graph, block, token[0], found)
    _find_positions(graph, block, tokens, found)
    _find_norm(graph, block, token[0], found)


def _find_embed(graph: Graph, block: Block, value: int, found: Found) -> None:
    """Find the embedding as it enters the stream, after a number that it is multiplied by."""
    calls = graph.recording.calls
    cuts = graph.cuts(value, block.enters)
    scaled = next((cut for cut in cuts[1:] if _is_scale(graph, cut)), None)
    if scaled is None or any(not graph.is_layout(cut) for cut in cuts[1 : cuts.index(scaled)]):
        found.take("embed", graph.tap(value, calls), "no module that runs once gives it")
        return
    tap = graph.tap(scaled, calls)
    inner = graph.tap(value, calls)
    factor = _factor(graph, scaled)
    if tap is None and inner is not None and factor is not None:
        tap = Tap(module=inner.module, view=Times(factor))
    found.take("embed", tap, "no module that runs once gives it, scaled")


def _is_scale(graph: Graph, value: int) -> bool:
    alone = len(graph.live_inputs(value)) == 1  # else the stream is multiplied by what it holds
    return alone and graph.made_by(value) in {"mul", "div"} and _others(graph, value) == 1


def _others(graph: Graph, value: int) -> int:
    """Give the number of entries of what a live value is multiplied by."""
    maker = graph.maker(value)
    inputs = (
        [] if maker is None else [number for number in maker.inputs if number not in graph.live]
    )
    return max((graph.tensor(number).numel() for number in inputs), default=1)


def _factor(graph: Graph, value: int) -> float | None:
    maker = graph.maker(value)
    if maker is None or graph.made_by(value) != "mul":
        return None
    numbers = [argument for argument in maker.args if isinstance(argument, int | float)]
    return float(numbers[0]) if numbers else None


def _find_positions(graph: Graph, block: Block, tokens: Collection[int], found: Found) -> None:
    """Find the one embedding that is looked up by position: its rows differ, its batch does not."""
    looked_up = set()
    for operation in graph.recording.operations[: graph.made_at(block.enters) + 1]:
        if operation.name == "embedding" and operation.inputs[-1] not in tokens:
            rows = graph.tensor(operation.outputs[0])
            flat = rows[0] if rows.ndim == _BATCH_POS_D else rows
            varies = len(flat) > 1 and not torch.equal(flat[0], flat[1])
            if varies and flat.shape[-1] == graph.tensor(block.enters).shape[-1]:
                looked_up.add(operation.outputs[0])
    calls = [
        call
        for call in graph.recording.calls
        if looked_up and call.given is not None and _reads(graph, call, looked_up)
    ]
    used = graph.uses(block.enters)
    calls = [call for call in calls if call.given in used]
    if len(looked_up) == 1 and calls:
        inner = min(calls, key=lambda call: (call.end - call.start, len(call.path)))
        outer = graph.tap(inner.given or 0, calls)
        if outer is not None and graph.tensor(inner.given or 0).ndim < _BATCH_POS_D:
            outer = replace(outer, view=one_row)
        found.take("pos_embed", outer, "its module runs more than once")
    elif looked_up:
        found.missing["pos_embed"] = f"{len(looked_up)} embeddings are looked up by position"


def _reads(graph: Graph, call: Call, looked_up: Collection[int]) -> bool:
    return any(graph.made_in(number, call) for number in looked_up) and (
        call.given is not None and graph.root(call.given) in {graph.root(x) for x in looked_up}
    )


def _find_norm(graph: Graph, block: Block, token: int, found: Found) -> None:
    """Find a norm whose output is what enters the first block."""
    for call in graph.recording.calls:
        if call.end > block.call.start or call.given is None or call.taken is None:
            continue
        if graph.same(call.given, block.enters) and graph.is_norm(call) and graph.runs_once(call):
            if graph.leads(token, call.taken):
                found.taps["embed_ln.out"] = Tap(module=call.path)
                found.norms["embed_ln.out"] = call
            return


def find_last_norm(
    graph: Graph, block: Block, site: str, found: Found, *, end: int, before: int
) -> None:
    """Find the last norm between the last block and a value, of those before an operation."""
    ancestors = graph.ancestors(end)
    norms = [
        call
        for call in graph.recording.calls
        if block.call.end <= call.start < before
        and call.taken is not None
        and graph.leads(block.leaves, call.taken)
        and call.given in ancestors
        and graph.is_norm(call)
    ]
    if not norms:
        return
    last = max(norms, key=lambda call: (call.end, call.end - call.start))
    if graph.runs_once(last):
        found.taps[site] = Tap(module=last.path)
        found.norms[site] = last
    else:
        found.missing[site] = "its module runs more than once"
