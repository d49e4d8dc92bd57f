"""The automatic site map: a family's record, found in a loaded model instead of written down.

One forward pass is recorded (`recording`): which value was made of which, and what enters and
leaves each module. From that, and from no module's name, the stream, its branches and what is in
them are told. A second pass on another prompt reads the sites as they will be read, and holds
them to what they are (`confirming`). A port's own mapping is never asked: it is under test.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.models.discovery import facts
from harness.models.discovery.blocks import find_in_block
from harness.models.discovery.confirming import confirm
from harness.models.discovery.found import Found
from harness.models.discovery.graph import Graph
from harness.models.discovery.head import head_of
from harness.models.discovery.outside import find_embeddings, find_last_norm
from harness.models.discovery.prompts import inputs_of, tokens_of
from harness.models.discovery.recording import recorded
from harness.models.discovery.stream import stacks_of
from harness.models.heads import UNKNOWN
from harness.models.ports.asking import logits_of
from harness.models.sites import LN_FINAL
from harness.models.text_config import text_part

if TYPE_CHECKING:
    from harness.models.discovery.recording import Recording
    from harness.models.discovery.stream import Block
    from harness.models.family import Family

_FIRST, _SECOND = 0, 1  # the prompts: one to find the sites on, one to confirm them on


def discovered(model: Any, family: Family) -> Family:
    """Complete a family's record with the sites and facts that are found in a loaded model.

    The model must attend eagerly; it is run twice, in the dtype that it has. What cannot be told
    or confirmed stands in `unidentified` with its reason.
    """
    found = Found()
    family = replace(family, head=UNKNOWN, takes_position_ids=False)
    with found.looking_for("blocks"):
        graph, leaves = _find(model, found)
        inputs = inputs_of(model, _FIRST)
        family = _completed(family, found)
        with found.looking_for("position_ids"):
            logits = logits_of(graph.recording.output)
            takes = facts.takes_position_ids(model, inputs, logits)
            family = replace(family, takes_position_ids=takes)
        if leaves is not None:
            family = replace(family, head=head_of(model, family, inputs, graph, leaves=leaves))
    return replace(family, unidentified=found.missing)


def _find(model: Any, found: Found) -> tuple[Graph, int | None]:
    """Find all sites; give the recording, and what the last block gives there."""
    inputs = inputs_of(model, _FIRST)
    recording = recorded(model, inputs)
    tokens = tokens_of(recording, inputs)
    graph = Graph.of(recording, tokens)
    stacks = _stacks(graph, model, found)
    for prefix, blocks in stacks.items():
        for layer, block in enumerate(blocks):
            with found.looking_for(f"{prefix}.{layer}"):
                find_in_block(graph, block, f"{prefix}.{layer}", found, text_part(model.config))
    if stacks:
        _find_outside(graph, stacks, tokens, found)
    confirmed = False
    with found.looking_for("the second prompt"):
        confirm(model, inputs_of(model, _SECOND), graph, found)
        confirmed = True
    if not confirmed:
        found.drop_all()
    with found.looking_for("layer_norm"):
        norms = [facts.subtracts_mean(graph, call) for call in found.norms.values()]
        found.layer_norm = bool(norms) and all(norms)
    last = next(reversed(stacks.values()))[-1].leaves if stacks else None
    return graph, last


def _stacks(graph: Graph, model: Any, found: Found) -> dict[str, tuple[Block, ...]]:
    """Give the stacks of blocks by the prefix of their sites; none, unless it is plain which."""
    stacks = stacks_of(graph, model)
    prefixes: tuple[str, ...] = ("blocks",)
    if getattr(model.config, "is_encoder_decoder", False):
        prefixes = ("encoder_blocks", "decoder_blocks")
    if len(stacks) != len(prefixes):
        paths = ", ".join(path for path, _ in stacks) or "none"
        found.missing[prefixes[-1]] = (
            f"{len(prefixes)} list(s) of modules must hand a stream on; found: {paths}"
        )
        return {}
    blocks = sorted((blocks for _, blocks in stacks), key=lambda stack: stack[0].call.start)
    return dict(zip(prefixes, blocks, strict=True))


def _find_outside(
    graph: Graph, stacks: dict[str, tuple[Block, ...]], tokens: frozenset[int], found: Found
) -> None:
    first, *_, last = (next(iter(stacks.values())), *stacks.values())
    with found.looking_for("embed"):
        find_embeddings(graph, first[0], tokens, found)
    end = len(graph.recording.operations)
    logits = _logits(graph.recording)
    find_last_norm(graph, last[-1], LN_FINAL, found, end=logits, before=end)
    if first is not last:
        start, leaves = last[0].call.start, last[-1].leaves
        site = "encoder_ln_final.out"
        find_last_norm(graph, first[-1], site, found, end=leaves, before=start)


def _logits(recording: Recording) -> int:
    logits = logits_of(recording.output)
    return max(number for number, tensor in enumerate(recording.tensors) if tensor is logits)


def _completed(family: Family, found: Found) -> Family:
    return replace(
        family,
        taps=found.taps,
        stacks=(),
        attention=found.attention,
        layer_norm=found.layer_norm,
        rotary=bool(found.turned),
        turned=frozenset(found.turned),
        sums=found.sums,
        sinks=found.sinks,
        scores_shifted=found.scores_shifted,
        post_norm=found.post_norm,
    )
