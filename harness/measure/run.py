"""A cell from case to rows: load, run every prompt, compare every site, say pass or fail."""

from __future__ import annotations

import hashlib
import math
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness.case import EXACT
from harness.errors import HarnessError, Unavailable
from harness.measure.comparer import CellComparer
from harness.measure.prompts import Vocabulary, bank
from harness.measure.references import References, numerics_of
from harness.measure.verdict import differs_as_known, judged, judged_error
from harness.models.ports import load_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.case import Cell, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a cell is asked: prompts drawn beside the bank, their seed, time to shrink a failure.

    `prompts` replaces bank and drawing, as in a replay or a gate. All of them are fingerprinted;
    else the bank is, so that a nightly run whose drawn prompts change stays comparable. A
    `lenient` plan counts hooks that never fire among the missing sites: which ones another
    version has is for a gate to judge.
    """

    drawn: int = 3
    seed: int = 0
    shrink_seconds: float = 20.0
    lenient: bool = False
    prompts: tuple[Prompt, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What a cell gave: its own row, its deltas, the prompts that it ran, and fingerprints.

    Fingerprints come in parts: the port's under the cell's id, and those of reference and oracle
    under names that all cells of the case and dtype share.
    """

    cell: Cell
    row: Row
    deltas: tuple[Row, ...]
    prompts: tuple[Row, ...]
    fingerprints: dict[str, tuple[Row, ...]]

    @property
    def verdict(self) -> str:
        """Give the cell's verdict."""
        return str(self.row["verdict"])


def measure_cell(
    cell: Cell,
    *,
    run_id: str,
    references: References,
    plan: Plan,
    load: Callable[[Cell, Checkpoint], Runner] = load_port,
) -> CellResult:
    """Measure one cell. Whatever goes wrong becomes its verdict, never an exception.

    `load` gives the port; a test of the harness's own teeth gives one with a fault planted.
    """
    started = time.monotonic()
    outcome = Outcome()
    try:
        _check_device(cell)
        _measure(cell, references, plan, outcome, load)
        if not outcome.deltas:
            message = "nothing was compared: no site is common to reference and port, or no prompt"
            raise HarnessError(message)  # noqa: TRY301 - it becomes the verdict below
        verdict, reason = judged(
            cell,
            failing={row["site"] for row in outcome.deltas if row["verdict"] == "fail"},
            first=outcome.first["site"] if outcome.first else None,
            woken=outcome.woken,
        )
    except Unavailable as reason_found:
        verdict, reason = "unavailable", str(reason_found)
    except Exception as error:  # noqa: BLE001 - a cell that breaks must not end the run
        verdict, reason = judged_error(cell, error)
    axes = _axes(cell, run_id)
    row = {
        **axes,
        "verdict": verdict,
        "reason": reason,
        "limitation": " ".join(dict.fromkeys(item.link for item in cell.limitations)) or None,
        "seconds": time.monotonic() - started,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **outcome.counts(),
    }
    return CellResult(
        cell=cell,
        row=row,
        deltas=tuple({**axes, **delta} for delta in outcome.deltas),
        prompts=tuple(
            _prompt_row(
                prompt, cell, run_id, fingerprinted=prompt.prompt_id in outcome.fingerprinted
            )
            for prompt in outcome.prompts
        ),
        fingerprints={
            name: tuple(_fingerprint_row(found, axes) for found in rows)
            for name, rows in outcome.fingerprints.items()
        },
    )


class Outcome:
    """What is known of a cell so far; filled as it is measured, so that nothing is lost."""

    def __init__(self) -> None:
        """Start with nothing measured."""
        self.deltas: list[Row] = []
        self.prompts: list[Prompt] = []
        self.compared: tuple[str, ...] = ()
        self.passed_through: frozenset[str] = frozenset()
        self.missing: tuple[str, ...] = ()
        self.first: Row | None = None
        self.tightest: str | None = None
        self.smallest: str | None = None
        self.digest: str | None = None
        self.woken: tuple[str, ...] = ()
        self.routing_flips = 0
        self.unjudged = 0
        self.fingerprinted: frozenset[str] = frozenset()
        self.fingerprints: dict[str, list[Row]] = {}

    def counts(self) -> Row:
        """Give the columns of the cell's row that sum up its deltas."""
        compared = self.compared if self.deltas else ()  # a cell that broke off compared nothing
        return {
            "first_site": self.first["site"] if self.first else None,
            "first_prompt_id": self.smallest,
            "tightest_relation": self.tightest,
            "sites_compared": len(compared),
            "sites_passed_through": len(self.passed_through.intersection(compared)),
            "sites_missing": len(self.missing),
            "missing_sites": " ".join(self.missing),
            "n_prompts": len(self.prompts),
            "routing_flips": self.routing_flips,
            "unjudged": self.unjudged,
            "worst_rel_l2": _largest(row["rel_l2"] for row in self.deltas),
            "worst_error_ratio": _largest(
                row["error_ratio"] / row["chance_factor"] for row in self.deltas
            ),
            "checkpoint_digest": self.digest,
        }


def _measure(
    cell: Cell,
    references: References,
    plan: Plan,
    outcome: Outcome,
    load: Callable[[Cell, Checkpoint], Runner],
) -> None:
    reference = references.of(cell)
    outcome.digest = reference.checkpoint.digest
    with numerics_of(cell.dtype):
        port = load(cell, reference.checkpoint)
    comparer = CellComparer(cell, reference=reference, port=port)
    vocabulary = Vocabulary.of(reference.checkpoint.config, padding=True)
    prompts = plan.prompts
    if prompts is None:
        from harness.measure.drawing import draw_prompts  # noqa: PLC0415 - not in a worker

        drawn = draw_prompts(vocabulary, count=plan.drawn, seed=plan.seed)
        prompts = tuple({p.prompt_id: p for p in (*bank(vocabulary), *drawn)}.values())
    if plan.lenient and prompts:
        comparer.leave_out_silent(prompts[0])
    outcome.compared, outcome.missing = comparer.compared, comparer.missing
    fixed = [p for p in prompts if plan.prompts is not None or p.origin.startswith("bank:")]
    outcome.fingerprinted = frozenset(prompt.prompt_id for prompt in fixed)
    distances: list[Row] = []
    for prompt in prompts:
        outcome.prompts.append(prompt)
        distances += comparer.distances(
            prompt, fingerprinted=prompt.prompt_id in outcome.fingerprinted
        )
    outcome.routing_flips, outcome.unjudged = comparer.routing_flips, comparer.unjudged
    comparer.learn_typical_errors(distances)
    outcome.deltas = [comparer.judged(row) for row in distances]
    outcome.passed_through = port.passed_through()
    outcome.woken = comparer.woken(prompts[0]) if prompts else ()
    outcome.fingerprints = _fingerprints(comparer, fixed, outcome)
    outcome.first = comparer.first_failure(outcome.deltas)
    if outcome.first is not None:
        _describe_failure(comparer, vocabulary, plan, outcome)


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
                "rel_l2": _largest(delta["rel_l2"] for delta in deltas),
                "reference_error": deltas[0]["typical_error"],
                "error_ratio": _largest(
                    delta["error_ratio"] / delta["chance_factor"] for delta in deltas
                ),
                "failed": any(delta["verdict"] == "fail" for delta in deltas),
                "difference_sketch": found.difference.tolist() if found.difference.any() else None,
            }
        )
    parts[cell.id] = port
    return parts


def _largest(values: Iterable[float]) -> float | None:
    """Give the largest; NaN is larger than any number, wherever it stands. None of none."""
    return max(values, key=lambda value: (math.isnan(value), value), default=None)


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


def _fingerprint_row(found: Row, axes: Row) -> Row:
    names = ("run_id", "family", "variant", "checkpoint", "device")
    return {**{name: axes[name] for name in names}, **found}


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
    # On a single token nearly every relation holds: the longest failing prompt can tell them apart.
    longest = max(
        (p for p in outcome.prompts if fails_at(outcome.deltas, p, str(first["site"]))),
        key=lambda p: len(p.tokens) * len(p.tokens[0]),
    )
    outcome.tightest = comparer.tightest(longest, str(first["site"]))


def fails_at(deltas: Sequence[Row], prompt: Prompt, site: str) -> bool:
    """Say whether a prompt's row at a site failed."""
    return any(
        delta["verdict"] == "fail" and delta["site"] == site
        for delta in deltas
        if delta["prompt_id"] == prompt.prompt_id
    )


def _check_device(cell: Cell) -> None:
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there[cell.device]:
        message = f"this machine has no {cell.device} device that torch can use"
        raise Unavailable(message)
    if cell.device == "mps" and cell.dtype == EXACT:
        message = "mps has no float64, so that nothing can be exact on it"
        raise Unavailable(message)


def _axes(cell: Cell, run_id: str) -> Row:
    return {
        "run_id": run_id,
        "cell_id": cell.id,
        "family": cell.case.family,
        "variant": cell.case.variant,
        "checkpoint": cell.case.checkpoint,
        "port": cell.mode.port,
        "loading_mode": cell.loading_mode,
        "dtype": cell.dtype,
        "device": cell.device,
    }


def _prompt_row(prompt: Prompt, cell: Cell, run_id: str, *, fingerprinted: bool) -> Row:
    return {
        "run_id": run_id,
        "cell_id": cell.id,
        "prompt_id": prompt.prompt_id,
        "origin": prompt.origin,
        "fingerprinted": fingerprinted,
        "tokens": [list(row) for row in prompt.tokens],
        "attention_mask": [list(row) for row in prompt.attention_mask],
    }
