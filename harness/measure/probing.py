"""A probe put to one loaded model: what it owes to be the same is compared and judged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from harness import bounds
from harness.case import EXACT, SYNTHETIC
from harness.errors import CaptureError, HarnessError, Unavailable
from harness.measure.columns import logit_numbers, numbers
from harness.measure.compare import compare, effective_number, identical
from harness.measure.entries import by_x, spread
from harness.measure.probes import PROBES, Model, Owed
from harness.measure.prompts import Vocabulary
from harness.measure.references import numerics_of
from harness.measure.relations import EQUAL
from harness.measure.routing import NO_FLIPS, experts_chosen, flips_between
from harness.measure.verdict import judged_checks, known_check
from harness.models.sites import layer_of, order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from harness.case import Cell, Prompt
    from harness.measure.outcome import Outcome, Plan
    from harness.measure.references import Reference, References
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
    """Put a cell's probe to its model; fill the outcome, and give verdict and reason.

    Raises:
        HarnessError: nothing was owed, so that nothing was compared.
    """
    reference = references.of(cell)
    outcome.checkpoint = reference.checkpoint
    with numerics_of(cell.dtype):
        runner = load(cell, reference.checkpoint)
    probe = PROBES[str(cell.probe)]
    vocabulary = Vocabulary.of(reference.checkpoint.config, padding=True)
    asked = plan.prompts_for(vocabulary)
    if reference.runner.family.chooses_keys:
        asked = tuple(filter(has_no_repeats, asked))
    prompts = probe.prompts(asked)
    if cell.case.checkpoint != SYNTHETIC:
        # The longest alone: of a large model each pass takes a second, and small ones are many.
        prompts = prompts[-1:]
    if not prompts:
        message = f"no prompt that {cell.probe} can be asked on: it needs one without padding"
        raise HarnessError(message)
    model = Model(
        cell=cell,
        runner=runner,
        reference=reference,
        exchange=plan.exchange,
        naive=plan.forced,
    )
    questioner = Questioner(model, prompts)
    outcome.compared = model.sites
    unread = (site for site in reference.runner.sites if site not in model.sites)
    outcome.missing = (*unread, *reference.runner.family.unidentified)
    for prompt in prompts:
        outcome.prompts.append(prompt)
        outcome.deltas += questioner.rows(prompt)
        if isinstance(questioner.raised, Unavailable):
            break  # the same answer each time
    outcome.routing_flips, outcome.unjudged = questioner.routing_flips, questioner.unjudged
    outcome.prompts += questioner.texts.values()
    outcome.passed_through = runner.passed_through()
    failing = any(row["verdict"] == "fail" for row in outcome.deltas)
    raised = questioner.raised  # of the prompts asked, not of what is tried to find a smaller one
    if raised is not None and not failing:
        raise raised
    if not outcome.deltas:
        message = f"{cell.probe}: nothing was owed, so that nothing was compared"
        raise HarnessError(message)
    firsts = questioner.first_failures(outcome.deltas)
    verdict, reason = judged_checks(cell, {check: row["site"] for check, row in firsts.items()})
    new = [row for row in firsts.values() if not known_check(cell, row["check"], row["site"])]
    outcome.first = next(iter((*new, *firsts.values())), None)
    if outcome.first is not None:
        _describe(questioner, outcome.first, vocabulary, plan, outcome, known=not new)
    if raised is not None:
        outcome.raised = True
        return "fail", f"{reason}; beside it a check raised {raised!r}"
    return verdict, reason


def has_no_repeats(prompt: Prompt) -> bool:
    """Say whether no row has a token twice.

    Where attention chooses keys by what they hold, equal tokens tie, and which of them is chosen
    is nobody's promise (docs/findings/doge-ties-among-repeated-tokens.md).
    """
    return all(len(set(row)) == len(row) for row in prompt.tokens)


class Questioner:
    """Puts a probe to a model, prompt by prompt, and judges what comes back."""

    def __init__(self, model: Model, prompts: Sequence[Prompt]) -> None:
        """Learn how far rounding alone goes at each site, from the reference on these prompts."""
        self.model = model
        self.probe = PROBES[str(model.cell.probe)]
        self._typical = typical_errors(model.reference, prompts)
        self._chosen = experts_chosen(model.reference.config)
        self.routing_flips = 0
        self.unjudged = 0
        self.raised: Exception | None = None
        self.texts: dict[str, Prompt] = {}
        self.because: dict[str, str] = {}

    def rows(self, prompt: Prompt) -> list[Row]:
        """Ask on one prompt and give a judged row per check and site.

        What was found before a check raised is kept, and what it raised in `raised`: an
        `Unavailable`, if the model owes nothing or cannot be asked.
        """
        rows: list[Row] = []
        try:
            for owed in self.probe.ask(self.model, prompt):
                self.texts |= {text.origin: text for text in owed.texts}
                self.because[owed.check] = owed.because
                rows += self._rows_of(owed, prompt)
        except Exception as error:  # noqa: BLE001 - whatever a library raises
            self.raised = error
        through = self.model.runner.passed_through()
        return [{**row, "passed_through": row["site"] in through} for row in rows]

    def first_failures(self, rows: Sequence[Row]) -> dict[str, Row]:
        """Give the failing row of each check that comes first in forward order.

        Of several rows at one site it is the smallest; checks that fail early come first.
        """

        def place(row: Row) -> tuple[Any, ...]:
            known = row["site"] in self.model.sites
            at = order(row["site"], post_norm=self.model.is_post_norm) if known else (-1,)
            return (at, row["n_compared"])

        first: dict[str, Row] = {}
        for row in sorted((row for row in rows if row["verdict"] == "fail"), key=place):
            first.setdefault(row["check"], row)
        return first

    def _rows_of(self, owed: Owed, prompt: Prompt) -> list[Row]:
        if odd := owed.actual.keys() ^ owed.expected.keys():
            message = f"{owed.check}: {', '.join(sorted(odd))} fired once and not the other time"
            raise CaptureError(message)
        flips = NO_FLIPS
        if self.model.cell.dtype != EXACT and not owed.bitwise:
            routed = (owed.actual, owed.actual)
            real = _every_position(owed)
            flips = flips_between(routed, owed.expected, chosen=self._chosen, real=real)
        self.routing_flips += flips.number
        rows = []
        for site, actual in owed.actual.items():
            if not (owed.bitwise or self._can_be_judged(site)):
                self.unjudged += 1
                continue
            untouched = flips.untouched(site)
            counts = counted(owed, site, actual, owed.expected[site], self.model.cell.dtype)
            if untouched is not None:
                counts = counts & spread(untouched, site, counts)
            if not bool(counts.any()):
                self.unjudged += untouched is not None
                continue
            rows.append(self._row(owed, prompt, site, counts))
        return rows

    def _can_be_judged(self, site: str) -> bool:
        """Say whether it is known how far rounding goes at a site; exact mode asks no such thing.

        A port can have sites inside attention that the reference's fused one does not show.
        """
        shown = site in self.model.reference.runner.sites or site not in self.model.sites
        return self.model.cell.dtype == EXACT or shown

    def _row(self, owed: Owed, prompt: Prompt, site: str, counts: Tensor) -> Row:
        cell = self.model.cell
        actual, expected = owed.actual[site], owed.expected[site]
        relation = owed.relations.get(site, EQUAL)
        found = identical(actual, expected, counts) if relation is EQUAL else None
        found = found or compare(actual, expected, relation=relation, counts=counts)
        # Both sides are rounded, each in its own way: their difference is √2 of one's error.
        typical = math.sqrt(2.0) * max(self._typical.get(site, 0.0), bounds.error_floor(cell.dtype))
        chance = 1.0
        if cell.dtype != EXACT:
            number = min(effective_number(expected.expand(counts.shape), counts), found.compared)
            chance = bounds.chance_factor(number)
        bound = bounds.bound_for(cell.dtype, refactored=False) * chance
        judged_by = found.rel_l2 if cell.dtype == EXACT else found.rel_l2 / typical
        if owed.bitwise:
            bound, judged_by = 0.0, found.rel_l2
        real = counts[..., 0] if counts.ndim > 1 else counts
        return {
            "check": owed.check,
            "power": owed.power,
            "prompt_id": prompt.prompt_id,
            "site": site,
            "layer": layer_of(site),
            "tensor_shape": by_x(actual),
            "n_compared": found.compared,
            "relation": relation.kind,
            **numbers(found),
            "reference_error": typical,
            "port_error": found.rel_l2,
            "typical_error": typical,
            "error_ratio": found.rel_l2 / typical,
            "chance_factor": chance,
            "bound": bound,
            **logit_numbers(site, actual, expected, real),
            "verdict": "pass" if judged_by <= bound and math.isfinite(found.rel_l2) else "fail",
        }


def counted(owed: Owed, site: str, actual: Tensor, expected: Tensor, dtype: str) -> Tensor:
    """Say which entries of a site's tensors count; scores masked out on both sides do not.

    Raises:
        CaptureError: the shapes do not fit.
    """
    try:
        shape = torch.broadcast_shapes(actual.shape, expected.shape)
    except RuntimeError as error:
        message = f"{owed.check}: {site} is {by_x(actual)}, and should be {by_x(expected)}"
        raise CaptureError(message) from error
    counts = torch.ones((), dtype=torch.bool, device=actual.device).expand(shape)
    if owed.counts is not None:
        real = owed.counts.to(actual.device)
        if shape[0] == 1:  # one row stands for all, as GPT-2's positions do
            real = real.all(0, keepdim=True)
        counts = spread(real, site, counts)
    if site.endswith("attn_scores"):
        floor = bounds.masked_below(dtype)
        counts = counts & ~((actual <= floor) & (expected <= floor))
    return counts


def typical_errors(reference: Reference, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Give the reference's own rounding error at each site: what two right ways may differ by.

    In exact mode there is none. Sites behind a token that rounding sends to another expert are
    left out.
    """
    if reference.dtype == EXACT:
        return {}
    squares: dict[str, list[float]] = {}
    chosen = experts_chosen(reference.config)
    for prompt in prompts:
        rounded, true = reference.activations(prompt), reference.oracle.activations(prompt)
        real = torch.tensor(prompt.attention_mask, dtype=torch.bool)
        flips = flips_between((rounded, rounded), true, chosen=chosen, real=real)
        for site, tensor in rounded.items():
            if flips.untouched(site) is None:
                squares.setdefault(site, []).append(reference.error_at(prompt, site, tensor) ** 2)
    return {site: math.sqrt(sum(found) / len(found)) for site, found in squares.items()}


def _every_position(owed: Owed) -> Tensor:
    if owed.counts is not None:
        return owed.counts.cpu()
    tensor = next(iter(owed.actual.values()))
    return torch.ones(tensor.shape[:2], dtype=torch.bool)


def _describe(
    questioner: Questioner,
    first: Row,
    vocabulary: Vocabulary,
    plan: Plan,
    outcome: Outcome,
    *,
    known: bool,
) -> None:
    """Find the smallest prompt on which the same check fails first at the same site."""
    prompt = next(p for p in outcome.prompts if p.prompt_id == first["prompt_id"])
    because = questioner.because.get(first["check"])
    outcome.tightest = because or f"{first['check']}: owed to be the same"

    def fails(candidate: Prompt) -> bool:
        if candidate.padded or len(candidate.tokens[0]) < 2:  # noqa: PLR2004 - none before the last
            return False
        if questioner.model.family.chooses_keys and not has_no_repeats(candidate):
            return False
        found = questioner.first_failures(questioner.rows(candidate)).get(first["check"])
        return found is not None and found["site"] == first["site"]

    if plan.shrink_seconds > 0 and not known:
        from harness.measure.drawing import smallest_failing  # noqa: PLC0415 - not in a worker

        smallest = smallest_failing(
            prompt, vocabulary, fails=fails, seconds=plan.shrink_seconds, seed=plan.seed
        )
        if smallest.prompt_id not in {p.prompt_id for p in outcome.prompts}:
            outcome.prompts.append(smallest)
            outcome.deltas += questioner.rows(smallest)
        prompt = smallest
    outcome.smallest = prompt.prompt_id
