"""The sites of one block, from its stream and its branches."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from harness.models.discovery.attention import (
    attentions_in,
    is_weighed_itself,
    output_of,
    projection,
)
from harness.models.discovery.branches import branches_of
from harness.models.discovery.facts import turns
from harness.models.discovery.mlp import mlp_taps, router_tap
from harness.models.discovery.stream import Normed, Sum
from harness.models.family import Tap
from harness.models.layouts import Times

if TYPE_CHECKING:
    from harness.models.discovery.branches import Branch
    from harness.models.discovery.found import Found
    from harness.models.discovery.graph import Graph
    from harness.models.discovery.recording import Call
    from harness.models.discovery.stream import Block

_MIDDLES: Final = ("resid_mid", "resid_mid_cross")
_NORMS: Final = 3  # of a block, as many as have a site
_NO_STREAM: Final = "what leaves the block is not what entered it plus what branches add"
_UNTAPPED: Final = "no module that runs once takes or gives it"


def find_in_block(graph: Graph, block: Block, prefix: str, found: Found, config: Any) -> None:
    """Find the sites of one block."""
    calls = [block.call, *graph.calls_within(block.call)]
    for site, value in (("resid_pre", block.enters), ("resid_post", block.leaves)):
        first = site == "resid_pre"
        tap = graph.tap(value, calls, inputs_first=first)
        if tap is None:
            tap = graph.tap(value, graph.recording.calls, inputs_first=first)
        found.take(f"{prefix}.{site}", tap, _UNTAPPED)
    if not block.steps:
        found.missing[f"{prefix}.attn_out"] = found.missing[f"{prefix}.mlp_out"] = _NO_STREAM
        return
    attentions = attentions_in(graph, block.call, block.enters)
    branches = branches_of(graph, block, attentions)
    kinds = [branch.kind for branch in branches]
    single = [branch for branch in branches if kinds.count(branch.kind) == 1]
    for kind in {kind for kind in kinds if kinds.count(kind) > 1}:
        found.missing[f"{prefix}.{kind}_out"] = f"several such branches: {', '.join(kinds)}"
    for branch in single:
        _find_branch(graph, block, branch, prefix, found)
        if branch.kind in {"attn", "cross_attn"}:
            _find_attention(graph, block, branch, f"{prefix}.{branch.kind}", found, config=config)
        if branch.kind == "mlp":
            _find_mlp(graph, block, branch, prefix, found)
    _find_norms(graph, block, branches, prefix, found)
    _find_middles(graph, block, branches, prefix, found)
    _expect_sums(block, branches, prefix, found)


def _find_branch(graph: Graph, block: Block, branch: Branch, prefix: str, found: Found) -> None:
    """Find what a branch adds to the stream: what a module gives, perhaps times a number."""
    inner = [call for call in graph.calls_within(block.call) if call.given != block.leaves]
    tap = graph.tap(branch.value, inner)
    maker = graph.maker(branch.value)
    if tap is None and maker is not None and graph.made_by(branch.value) == "mul":
        numbers = [argument for argument in maker.args if isinstance(argument, int | float)]
        tap = graph.tap(graph.live_inputs(branch.value)[0], inner) if numbers else None
        if tap is not None:
            tap = Tap(module=tap.module, side=tap.side, view=Times(float(numbers[0])))
    found.take(f"{prefix}.{branch.kind}_out", tap, _UNTAPPED)


def _find_attention(
    graph: Graph, block: Block, branch: Branch, prefix: str, found: Found, *, config: Any
) -> None:
    attention = branch.attention
    if attention is None:
        found.missing[f"{prefix}.pattern"] = "several softmaxes in one branch"
        return
    found.attention[prefix] = attention.module
    if turns(graph, attention):
        found.turned.add(prefix)
    factors = {
        "q": attention.query,
        "k": attention.key_transposed,
        "v": attention.value,
    }
    for name, factor in factors.items():
        tap, why = projection(graph, name, factor, block.call, config)
        found.take(f"{prefix}.{name}", tap, why)
    if is_weighed_itself(graph, attention):
        found.weighed.add(prefix)
    tap, z, why = output_of(graph, attention, block.call)
    found.take(f"{prefix}.z", tap, why)
    found.expect(f"{prefix}_out", branch.value, {z: f"{prefix}.z"})


def _find_mlp(graph: Graph, block: Block, branch: Branch, prefix: str, found: Found) -> None:
    router, no_router = router_tap(graph, block, branch)
    if router is not None or no_router:
        found.take(f"{prefix}.mlp.router", router, no_router)
        return
    inside, why = mlp_taps(graph, block, branch)
    for site, inner in inside.items():
        found.taps[f"{prefix}.{site}"] = inner.tap
    if not why:
        post = f"{prefix}.mlp.post"
        whole = {inner.value: f"{prefix}.{site}" for site, inner in inside.items() if inner.whole}
        made_of = {value: site for value, site in whole.items() if site != post}
        if made_of:
            found.expect(post, inside["mlp.post"].value, made_of, *made_of.values())
        found.expect(f"{prefix}.mlp_out", branch.value, {inside["mlp.post"].value: post})
    else:
        found.missing.update(dict.fromkeys((f"{prefix}.mlp.pre", f"{prefix}.mlp.post"), why))


def _find_norms(
    graph: Graph, block: Block, branches: tuple[Branch, ...], prefix: str, found: Found
) -> None:
    """Find the norms before the branches, or those that the stream passes behind them."""
    behind = [step.call for step in block.steps if isinstance(step, Normed)]
    slots = dict.fromkeys((branch.reads, _path(branch.norm)) for branch in branches)
    by_path = {_path(branch.norm): branch.norm for branch in branches if branch.norm is not None}
    calls = {
        place: by_path[path] for place, (_, path) in enumerate(slots, start=1) if path in by_path
    }
    if behind and not calls:
        calls = dict(enumerate(behind, start=1))
        found.post_norm |= isinstance(block.steps[0], Sum)
    for place, call in calls.items():
        site = f"{prefix}.ln{place}.out"
        if place <= _NORMS and graph.runs_once(call):
            found.taps[site] = Tap(module=call.path)
            found.norms[site] = call


def _path(call: Call | None) -> str:
    return "" if call is None else call.path


def _find_middles(
    graph: Graph, block: Block, branches: tuple[Branch, ...], prefix: str, found: Found
) -> None:
    """Find the stream between two branches of which the second reads what the first gave."""
    calls = list(graph.calls_within(block.call))
    middles = iter(_MIDDLES)
    for before, after in itertools.pairwise(branches):
        if after.reads == before.reads:
            continue
        site = f"{prefix}.{next(middles, _MIDDLES[-1])}"
        norms = [call for call in calls if graph.is_norm(call)]
        tap = graph.tap(before.total, norms, inputs_first=True)
        tap = tap or graph.tap(before.total, calls, inputs_first=True)
        found.take(site, tap, _UNTAPPED)
        if site in found.taps:
            added = {
                branch.value: f"{prefix}.{branch.kind}_out"
                for branch in branches[: branches.index(after)]
            }
            entered = {block.enters: f"{prefix}.resid_pre"}
            blamed = (site, *added.values())
            found.expect_stream(site, before.total, entered | added, blamed)


def _expect_sums(block: Block, branches: tuple[Branch, ...], prefix: str, found: Found) -> None:
    """Expect the stream to leave the block with what entered it and all its branches."""
    added = {branch.value: f"{prefix}.{branch.kind}_out" for branch in branches}
    entered = {block.enters: f"{prefix}.resid_pre"}
    site = f"{prefix}.resid_post"
    found.expect_stream(site, block.leaves, entered | added, tuple(added.values()))
