"""A cell from case to rows: load, run every prompt, compare every site, say pass or fail."""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.case import EXACT
from harness.errors import HarnessError, Unavailable
from harness.measure import bounds
from harness.measure.capture import capture
from harness.measure.compare import Comparison, compare, kl_nats, top1_agreement
from harness.measure.prompts import Vocabulary, bank, draw_prompts, smallest_failing
from harness.measure.references import Reference, References, numerics_of
from harness.measure.relations import Relation, relation_for, tightest_relation
from harness.measure.routing import NO_FLIPS, experts_chosen, flips_between
from harness.models.families import FAMILIES
from harness.models.ports import load_port
from harness.models.sites import LOGITS, is_attention_matrix, layer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from harness.case import Cell, Limitation, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a cell is asked: prompts drawn beside the bank, their seed, time to shrink a failure.

    `prompts` replaces bank and drawing, as in a replay.
    """

    drawn: int = 3
    seed: int = 0
    shrink_seconds: float = 20.0
    prompts: tuple[Prompt, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What a cell gave: its own row, its deltas, and the prompts that it ran."""

    cell: Cell
    row: Row
    deltas: tuple[Row, ...]
    prompts: tuple[Row, ...]

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
        verdict, reason = _judged(cell, outcome)
    except Unavailable as reason_found:
        verdict, reason = "unavailable", str(reason_found)
    except Exception as error:  # noqa: BLE001 - a cell that breaks must not end the run
        verdict, reason = _judged_error(cell, error)
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
        prompts=tuple(_prompt_row(prompt, cell, run_id) for prompt in outcome.prompts),
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

    def counts(self) -> Row:
        """Give the columns of the cell's row that sum up its deltas."""
        return {
            "first_site": self.first["site"] if self.first else None,
            "first_prompt_id": self.smallest,
            "tightest_relation": self.tightest,
            "sites_compared": len(self.compared),
            "sites_passed_through": len(self.passed_through.intersection(self.compared)),
            "sites_missing": len(self.missing),
            "missing_sites": " ".join(self.missing),
            "n_prompts": len(self.prompts),
            "routing_flips": self.routing_flips,
            "unjudged": self.unjudged,
            "worst_rel_l2": _worst(self.deltas, "rel_l2"),
            "worst_error_ratio": _worst(self.deltas, "error_ratio"),
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
    outcome.compared, outcome.missing = comparer.compared, comparer.missing
    vocabulary = Vocabulary.of(reference.checkpoint.config, padding=True)
    prompts = plan.prompts
    if prompts is None:
        drawn = draw_prompts(vocabulary, count=plan.drawn, seed=plan.seed)
        prompts = tuple({p.prompt_id: p for p in (*bank(vocabulary), *drawn)}.values())
    distances: list[Row] = []
    for prompt in prompts:
        outcome.prompts.append(prompt)
        distances += comparer.distances(prompt)
    outcome.routing_flips, outcome.unjudged = comparer.routing_flips, comparer.unjudged
    comparer.learn_typical_errors(distances)
    outcome.deltas = [comparer.judged(row) for row in distances]
    outcome.passed_through = port.passed_through()
    outcome.woken = comparer.woken(prompts[0])
    outcome.first = comparer.first_failure(outcome.deltas)
    if outcome.first is not None:
        _describe_failure(comparer, vocabulary, plan, outcome)


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

    if plan.shrink_seconds > 0 and not _differs_as_known(comparer.cell, first["site"]):
        smallest = smallest_failing(
            prompt, vocabulary, fails=fails, seconds=plan.shrink_seconds, seed=plan.seed
        )
        if smallest.prompt_id not in {p.prompt_id for p in outcome.prompts}:
            outcome.prompts.append(smallest)
            deltas = comparer.deltas(smallest)
            outcome.deltas += deltas
            outcome.first = comparer.first_failure(deltas) or first
            prompt = smallest
    outcome.smallest = prompt.prompt_id
    # On a single token nearly every relation holds: the longest failing prompt can tell them apart.
    longest = max(
        (p for p in outcome.prompts if fails_at(outcome.deltas, p, str(first["site"]))),
        key=lambda p: len(p.tokens) * len(p.tokens[0]),
    )
    outcome.tightest = comparer.tightest(longest, str(first["site"]))


class CellComparer:
    """A cell's reference and port, loaded, and the sites at which both can be read."""

    def __init__(self, cell: Cell, *, reference: Reference, port: Runner) -> None:
        """Work out the sites to compare and the relation at each."""
        self.cell = cell
        self.reference = reference
        self.port = port
        family = FAMILIES[cell.case.family]
        softcapped = bool(reference.checkpoint.config.get("final_logit_softcapping"))
        silent = [item for item in cell.limitations if item.outcome == "silent"]
        self.silenced = tuple(
            site for site in port.sites if any(item.names(site) for item in silent)
        )
        offered = set(port.sites).difference(self.silenced)
        self.relations: dict[str, Relation] = {}
        missing = []
        for site in reference.runner.sites:
            relation = relation_for(
                site,
                processing=cell.mode.processing,
                family=family,
                norms=reference.runner.norms,
                softcapped=softcapped,
                folded=reference.oracle,
            )
            if relation is None or site not in offered:
                missing.append(site)
            else:
                self.relations[site] = relation
        self._typical: dict[str, float] = {}
        self._chosen = experts_chosen(reference.checkpoint.config)
        self.routing_flips = 0
        self.unjudged = 0
        self.compared = tuple(self.relations)
        self.missing = tuple(missing)

    def distances(self, prompt: Prompt, *, keep: bool = True) -> list[Row]:
        """Run a prompt on all sides and give one row per site, in forward order, not yet judged."""
        expected = self.reference.activations(prompt, keep=keep)
        oracle = self.reference.oracle.activations(prompt, keep=keep)
        with numerics_of(self.cell.dtype):
            actual = capture(self.port, prompt, self.compared)
        flips = NO_FLIPS
        if self.cell.dtype != EXACT:  # where nothing rounds, no tie falls the other way
            flips = flips_between((actual, expected), oracle, chosen=self._chosen)
        self.routing_flips += flips.number
        rows = []
        for site in self.compared:
            untouched = flips.untouched(site)
            if untouched is not None and not bool(untouched.any()):
                self.unjudged += 1
                continue
            tensors = (actual[site], expected[site], oracle[site])
            rows.append(self._distance(prompt, site, *tensors, untouched=untouched))
        return rows

    def learn_typical_errors(self, rows: Sequence[Row]) -> None:
        """Keep the reference's root mean square error at each site, over the prompts.

        On a single token the reference's own rounding can be small by luck, and a ratio to it
        large; what rounding does at the site in general is the fair measure.
        """
        by_site: dict[str, list[float]] = {}
        for row in rows:
            by_site.setdefault(row["site"], []).append(row["reference_error"])
        self._typical = {
            site: math.sqrt(sum(error**2 for error in errors) / len(errors))
            for site, errors in by_site.items()
        }

    def judged(self, row: Row) -> Row:
        """Add the error ratio, the bound and the verdict to a row of distances."""
        dtype = self.cell.dtype
        typical = self._typical.get(row["site"], 0.0)
        least = max(row["reference_error"], typical, bounds.error_floor(dtype))
        ratio = row["port_error"] / least
        bound = bounds.bound_for(dtype)
        judged_by = row["rel_l2"] if dtype == EXACT else ratio
        good = judged_by <= bound and math.isfinite(row["rel_l2"])
        return {
            **row,
            "typical_error": typical,
            "error_ratio": ratio,
            "bound": bound,
            "passed_through": row["site"] in self.port.passed_through(),
            "verdict": "pass" if good else "fail",
        }

    def deltas(self, prompt: Prompt) -> list[Row]:
        """Run one more prompt and give its judged rows."""
        return [self.judged(row) for row in self.distances(prompt, keep=False)]

    def first_failure(self, deltas: Sequence[Row]) -> Row | None:
        """Give the failing row that comes first in forward order; among prompts, the shortest.

        Sites that differ for a reason of their own, by a `local` limitation, are passed over.
        """
        failing = [
            delta
            for delta in deltas
            if delta["verdict"] == "fail" and not _local(self.cell, delta["site"])
        ]

        def key(delta: Row) -> tuple[int, int]:
            sizes = [int(part) for part in delta["tensor_shape"].split("x")]
            return (self.compared.index(delta["site"]), math.prod(sizes))

        return min(failing, key=key, default=None)

    def woken(self, prompt: Prompt) -> tuple[str, ...]:
        """Name the sites that a limitation says never fire, and that do."""
        if not self.silenced:
            return ()
        with numerics_of(self.cell.dtype):
            return tuple(self.port.run(prompt, self.silenced))

    def tightest(self, prompt: Prompt, site: str) -> str:
        """Say in words the tightest relation that holds at a site."""
        with numerics_of(self.cell.dtype):
            actual = capture(self.port, prompt, self.compared)[site]
        expected = self.reference.activations(prompt, keep=False)[site]
        actual, expected, counts = entries(actual, expected, prompt, site, dtype=self.cell.dtype)
        if self.cell.dtype == EXACT:
            within = bounds.EXACT_BOUND
        else:
            within = bounds.ERROR_RATIO_BOUND[self.cell.dtype] * 10 * torch.finfo(actual.dtype).eps
        return tightest_relation(actual, expected, counts, within=within)

    def _distance(
        self,
        prompt: Prompt,
        site: str,
        actual: Tensor,
        expected: Tensor,
        oracle: Tensor,
        *,
        untouched: Tensor | None,
    ) -> Row:
        dtype = self.cell.dtype
        relation = self.relations[site]

        def between(left: Tensor, right: Tensor, sense: Relation) -> Comparison:
            left, right, counts = entries(left, right, prompt, site, dtype=dtype)
            if untouched is not None:
                counts = counts & _along(untouched, site, counts)
            return compare(left, right, relation=sense, counts=counts)

        against = between(actual, expected, relation)
        if dtype == EXACT:  # the reference is its own oracle
            port_error, reference_error = against.rel_l2, 0.0
        else:
            port_error = between(actual, oracle, relation).rel_l2
            plain = relation.for_the_reference()
            key = (prompt.prompt_id, site, plain.kind)
            errors = self.reference.errors  # the same for every mode that has this relation
            if key not in errors or untouched is not None:
                errors[key] = between(expected, oracle, plain).rel_l2
            reference_error = errors[key]
            if untouched is not None:
                del errors[key]  # another mode's flips leave out other positions
        return {
            "prompt_id": prompt.prompt_id,
            "site": site,
            "layer": layer_of(site),
            "tensor_shape": "x".join(map(str, actual.shape)),
            "relation": relation.kind,
            **_numbers(against),
            "reference_error": reference_error,
            "port_error": port_error,
            **_logit_numbers(site, actual, expected, prompt),
        }


def entries(
    actual: Tensor, expected: Tensor, prompt: Prompt, site: str, *, dtype: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Give both tensors in one shape, and which of their entries count: [batch, pos, …].

    Padding does not count: what a model computes there is nobody's promise. In a matrix of
    scores, what is masked out is minus infinity on both sides and does not count; where one side
    masks and the other does not, the infinity stays alone and fails.
    """
    shape = torch.broadcast_shapes(actual.shape, expected.shape)
    actual, expected = actual.expand(shape), expected.expand(shape)
    real = torch.tensor(prompt.attention_mask, dtype=torch.bool, device=actual.device)
    # A decoder that reads an encoder has no mask of its own.
    if site.startswith("decoder_") or (prompt.padded and real.shape[1] != _positions(site, shape)):
        real = torch.ones_like(real)
    if shape[0] == 1:  # one row stands for all, as GPT-2's positions do
        real = real.all(0, keepdim=True)
    counts = _along(real, site, actual)
    if not is_attention_matrix(site):
        return actual, expected, counts
    if site.endswith("attn_scores"):
        floor = bounds.masked_below(dtype)
        actual = actual.masked_fill(actual <= floor, -math.inf)
        expected = expected.masked_fill(expected <= floor, -math.inf)
        counts = counts & ~(actual.isneginf() & expected.isneginf())
    return actual, expected, counts


def _along(positions: Tensor, site: str, like: Tensor) -> Tensor:
    """Spread [batch, pos] over a site's layout; in a matrix of attention, over its queries."""
    if is_attention_matrix(site):
        return positions[:, None, :, None].expand(like.shape)
    return positions.view(*positions.shape, *(1,) * (like.ndim - 2)).expand(like.shape)


def fails_at(deltas: Sequence[Row], prompt: Prompt, site: str) -> bool:
    """Say whether a prompt's row at a site failed."""
    return any(
        delta["verdict"] == "fail" and delta["site"] == site
        for delta in deltas
        if delta["prompt_id"] == prompt.prompt_id
    )


def _judged(cell: Cell, outcome: Outcome) -> tuple[str, str | None]:
    if not outcome.deltas:
        message = "nothing was compared: no site is common to reference and port, or no prompt"
        raise HarnessError(message)
    if outcome.woken:
        return "stale", f"a limitation says these never fire: {', '.join(outcome.woken)}"
    failing = {row["site"] for row in outcome.deltas if row["verdict"] == "fail"}
    holding = [item for item in cell.limitations if item.outcome == "silent"]
    others = [item for item in cell.limitations if item.outcome != "silent"]
    for item in cell.limitations:
        if item.outcome != "local":
            continue
        if not any(item.names(site) for site in failing):
            return "stale", f"agrees, but a limitation says it does not: {item.reason}"
        holding.append(item)
        others.remove(item)
    if outcome.first is None:
        if others:
            return "stale", f"agrees, but a limitation says it does not: {others[0].reason}"
        return ("known", "; ".join(item.reason for item in holding)) if holding else ("pass", None)
    site = str(outcome.first["site"])
    known = _differs_as_known(cell, site)
    if known is not None:
        return "known", known.reason
    said = "; ".join(f"{item.outcome} {' '.join(item.sites)}" for item in others)
    known_words = f", though its limitations say: {said}" if said else ""
    return "fail", f"port differs from reference first at {site}{known_words}"


def _differs_as_known(cell: Cell, site: str) -> Limitation | None:
    """Give the limitation that says that the cell differs first at this site."""
    return next(
        (item for item in cell.limitations if item.outcome == "differs" and item.names(site)), None
    )


def _local(cell: Cell, site: str) -> bool:
    """Say whether a limitation says that this site, for itself, differs."""
    return any(item.outcome == "local" and item.names(site) for item in cell.limitations)


def _judged_error(cell: Cell, error: Exception) -> tuple[str, str]:
    told = str(error) if isinstance(error, HarnessError) else repr(error)
    for item in cell.limitations:
        if item.outcome == "raises" and item.words in told:
            return "known", f"{item.reason} ({told})"
    return "error", told


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


def _prompt_row(prompt: Prompt, cell: Cell, run_id: str) -> Row:
    return {
        "run_id": run_id,
        "cell_id": cell.id,
        "prompt_id": prompt.prompt_id,
        "origin": prompt.origin,
        "tokens": [list(row) for row in prompt.tokens],
        "attention_mask": [list(row) for row in prompt.attention_mask],
    }


_NUMBERS: Final = ("max_abs", "mean_abs", "rms", "rel_l2", "cosine", "raw_max_abs", "shift_abs")


def _numbers(found: Comparison) -> Row:
    return {
        **{name: getattr(found, name) for name in _NUMBERS},
        "mean_port": found.mean_actual,
        "mean_reference": found.mean_expected,
        "std_port": found.std_actual,
        "std_reference": found.std_expected,
        "nonfinite": found.nonfinite,
        "worst_index": ",".join(map(str, found.worst_index)),
    }


def _logit_numbers(site: str, actual: Tensor, expected: Tensor, prompt: Prompt) -> Row:
    if site != LOGITS:
        return {"kl_nats": None, "top1_agreement": None}
    real = torch.tensor(prompt.attention_mask, dtype=torch.bool, device=actual.device)
    left, right = actual[real], expected[real]
    return {"kl_nats": kl_nats(left, right), "top1_agreement": top1_agreement(left, right)}


def _worst(deltas: Sequence[Row], column: str) -> float | None:
    return max((float(delta[column]) for delta in deltas), default=None)


def _positions(site: str, shape: torch.Size) -> int:
    return shape[2] if is_attention_matrix(site) else shape[1]
