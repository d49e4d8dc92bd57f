"""Does the port agree with the reference? Every prompt run on both, every site compared."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from harness.case import EXACT
from harness.errors import HarnessError
from harness.measure.comparer import CellComparer
from harness.measure.outcome import largest
from harness.measure.prompts import Vocabulary
from harness.measure.references import References, numerics_of
from harness.measure.verdict import differs_as_known, judged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.case import Cell, Prompt
    from harness.measure.outcome import Outcome, Plan
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner

Row = dict[str, Any]


def measure(
    cell: Cell,
    references: References,
    plan: Plan,
    outcome: Outcome,
    load: Callable[[Cell, Checkpoint], Runner],
) -> tuple[str, str | None]:
    """Compare the port with the reference; fill the outcome, and give verdict and reason.

    Raises:
        HarnessError: there is nothing to compare.
    """
    reference = references.of(cell)
    outcome.checkpoint = reference.checkpoint
    with numerics_of(cell.dtype):
        port = load(cell, reference.checkpoint)
    comparer = CellComparer(cell, reference=reference, port=port, forced=plan.forced)
    vocabulary = Vocabulary.of(reference.checkpoint.config, padding=True)
    prompts = plan.prompts_for(vocabulary)
    if plan.lenient and prompts:
        comparer.leave_out_silent(prompts[0])
    outcome.compared, outcome.missing = comparer.compared, comparer.missing
    fixed = [p for p in prompts if plan.prompts is not None or p.origin.startswith("bank:")]
    outcome.fingerprinted = frozenset(prompt.prompt_id for prompt in fixed)
    distances: list[list[Row]] = []
    for prompt in prompts:
        outcome.prompts.append(prompt)
        fingerprinted = prompt.prompt_id in outcome.fingerprinted
        distances.append(comparer.distances(prompt, fingerprinted=fingerprinted))
    outcome.routing_flips, outcome.unjudged = comparer.routing_flips, comparer.unjudged
    comparer.learn_typical_errors(prompts, distances)
    # Kept before rounding is asked about, so that nothing is lost if that raises.
    outcome.deltas = [comparer.judged(row) for rows in distances for row in rows]
    judged_by_prompt = map(comparer.judged_on, prompts, distances)
    outcome.deltas = [row for rows in judged_by_prompt for row in rows]
    outcome.passed_through = port.passed_through()
    outcome.woken = comparer.woken(prompts[0]) if prompts else ()
    outcome.fingerprints = _fingerprints(comparer, fixed, outcome)
    outcome.first = comparer.first_failure(outcome.deltas)
    if outcome.first is not None:
        _describe_failure(comparer, vocabulary, plan, outcome)
        if plan.forced:
            _say_senses(comparer, prompts, outcome)
    if not outcome.deltas:
        message = "nothing was compared: no site is common to reference and port, or no prompt"
        raise HarnessError(message)
    return judged(
        cell,
        failing={row["site"] for row in outcome.deltas if row["verdict"] == "fail"},
        first=outcome.first["site"] if outcome.first else None,
        woken=outcome.woken,
    )


def _fingerprints(
    comparer: CellComparer, prompts: Sequence[Prompt], outcome: Outcome
) -> dict[str, list[Row]]:
    """Give the fingerprints of reference, oracle and port over the prompts, part by part."""
    cell, reference = comparer.cell, comparer.reference
    question = _question(reference.checkpoint.digest, prompts)
    shared = {"side": "reference", "dtype": cell.dtype, "question": question, **_NO_PORT}
    name = ".".join((cell.case.id, cell.dtype, *([] if cell.device == "cpu" else [cell.device])))
    parts = {f"{name}.reference": [{**row, **shared} for row in reference.fingerprints(prompts)]}
    if reference.oracle is not reference:
        own = reference.oracle.of_rounded_weights
        side, dtype = ("oracle", cell.dtype) if own else ("reference", EXACT)
        oracle_name = f"{name}.oracle" if own else f"{name.replace(cell.dtype, EXACT)}.reference"
        parts[oracle_name] = [
            {**row, **shared, "side": side, "dtype": dtype}
            for row in reference.oracle.fingerprints(prompts)
        ]
    by_site: dict[str, list[Row]] = {}
    for delta in outcome.deltas:
        if delta["prompt_id"] in outcome.fingerprinted:
            by_site.setdefault(delta["site"], []).append(delta)
    port = []
    places = {site: place for place, site in enumerate(reference.runner.sites)}
    for site, deltas in by_site.items():
        found = comparer.prints[site]
        port.append(
            {
                "side": "port",
                "dtype": cell.dtype,
                "question": question,
                "cell_id": cell.id,
                "loading_mode": cell.loading_mode,
                "site": site,
                "place": places[site],
                "relation": comparer.relations[site].for_the_reference().kind,
                **found.row(),
                "sketch": None,
                "prompt_norms": None,
                "prompt_projections": None,
                "rel_l2": largest(delta["rel_l2"] for delta in deltas),
                "reference_error": comparer.typical_error(site),
                "error_ratio": largest(
                    delta["error_ratio"] / delta["chance_factor"] for delta in deltas
                ),
                "failed": any(delta["verdict"] == "fail" for delta in deltas),
                "difference_sketch": found.difference.tolist() if found.difference.any() else None,
            }
        )
    parts[cell.id] = port
    return parts


_NO_PORT = dict.fromkeys(
    (
        "cell_id",
        "loading_mode",
        "rel_l2",
        "reference_error",
        "error_ratio",
        "failed",
        "difference_sketch",
    )
)


def _question(checkpoint_digest: str, prompts: Sequence[Prompt]) -> int:
    """Give a digest of what was asked: the checkpoint and the prompts, in their order."""
    asked = " ".join((checkpoint_digest, *(prompt.prompt_id for prompt in prompts)))
    whole = hashlib.blake2b(asked.encode(), digest_size=8).digest()
    return int.from_bytes(whole, "little", signed=True)


def _describe_failure(
    comparer: CellComparer, vocabulary: Vocabulary, plan: Plan, outcome: Outcome
) -> None:
    """Find the smallest prompt that fails at the same site first, and what holds there."""
    first = outcome.first
    if first is None:
        return
    prompt = next(p for p in outcome.prompts if p.prompt_id == first["prompt_id"])

    def fails(candidate: Prompt) -> bool:
        found = comparer.first_failure(comparer.deltas(candidate))
        return found is not None and found["site"] == first["site"]

    if plan.shrink_seconds > 0 and not differs_as_known(comparer.cell, first["site"]):
        from harness.measure.drawing import smallest_failing  # noqa: PLC0415 - not in a worker

        smallest = smallest_failing(
            prompt, vocabulary, fails=fails, seconds=plan.shrink_seconds, seed=plan.seed
        )
        if smallest.prompt_id not in {p.prompt_id for p in outcome.prompts}:
            outcome.prompts.append(smallest)
            outcome.deltas += comparer.deltas(smallest)
        prompt = smallest
    outcome.smallest = prompt.prompt_id
    outcome.positions = comparer.positions(prompt, str(first["site"]))
    # On a single token nearly every relation holds: the longest failing prompt can tell them apart.
    longest = max(
        (p for p in outcome.prompts if fails_at(outcome.deltas, p, str(first["site"]))),
        key=lambda p: len(p.tokens) * len(p.tokens[0]),
    )
    outcome.tightest = comparer.tightest(longest, str(first["site"]))


def _say_senses(comparer: CellComparer, prompts: Sequence[Prompt], outcome: Outcome) -> None:
    """Say of each failing row in which sense it would pass, had none been forced.

    All is compared once more, by the mode's processing, and judged as it would have been then.
    """
    own = CellComparer(comparer.cell, reference=comparer.reference, port=comparer.port)
    own.compared = comparer.compared
    distances = {prompt.prompt_id: own.distances(prompt) for prompt in outcome.prompts}
    own.learn_typical_errors(prompts, [distances[each.prompt_id] for each in prompts])
    senses = {
        (name, row["site"]): {"agrees_as": row["relation"], "shift_abs": row["shift_abs"]}
        for name, rows in distances.items()
        for row in map(own.judged, rows)
        if row["verdict"] == "pass"
    }
    outcome.deltas = [
        {**row, **senses.get((row["prompt_id"], row["site"]), {})}
        if row["verdict"] == "fail"
        else row
        for row in outcome.deltas
    ]


def fails_at(deltas: Sequence[Row], prompt: Prompt, site: str) -> bool:
    """Say whether a prompt's row at a site failed."""
    return any(
        delta["verdict"] == "fail" and delta["site"] == site
        for delta in deltas
        if delta["prompt_id"] == prompt.prompt_id
    )
