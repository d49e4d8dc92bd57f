"""A cell's reference and port side by side: every site of a prompt compared, and its row judged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch

from harness import bounds
from harness.case import EXACT
from harness.measure.capture import capture, capture_each
from harness.measure.columns import logit_numbers, numbers, real_positions
from harness.measure.compare import brought_together, compare, identical, relative_distance
from harness.measure.entries import by_x, entries, spread
from harness.measure.fingerprint import Fingerprint, printed, seed_of
from harness.measure.kernels import sketch
from harness.measure.positions import by_position
from harness.measure.references import Reference, numerics_of
from harness.measure.relations import EQUAL, Relation, relation_for, tightest_relation
from harness.measure.rounding import root_mean_square, spread_at
from harness.measure.routing import NO_FLIPS, experts_chosen, flips_between
from harness.measure.verdict import differs_by_itself
from harness.models.sites import layer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from harness.case import Cell, Prompt
    from harness.measure.compare import Brought
    from harness.measure.fingerprint import Printed
    from harness.models.ports import Runner

Row = dict[str, Any]

OUT_OF_REACH: Final = 100.0
"""Times the bound from which on no rounding is asked about: it would not explain a row."""

LARGE: Final = 64 * 2**20
"""Bytes of weights from which on a port's sites are compared as they fire, and let go at once."""


class CellComparer:
    """A cell's reference and port, loaded, and the sites at which both can be read."""

    def __init__(
        self, cell: Cell, *, reference: Reference, port: Runner, forced: bool = False
    ) -> None:
        """Work out the sites to compare and the relation at each: `forced` makes all equal."""
        self.cell = cell
        self.reference = reference
        self.port = port
        family = reference.runner.family
        softcapped = bool(reference.config.get("final_logit_softcapping"))
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
                port=cell.mode.port,
                processing=cell.mode.processing,
                family=family,
                norms=reference.runner.norms,
                softcapped=softcapped,
                folded=reference.oracle,
            )
            if relation is None or site not in offered:
                missing.append(site)
            else:
                self.relations[site] = EQUAL if forced else relation
        self._forced = forced
        self._typical: dict[str, float] = {}
        self._usual: tuple[Prompt, ...] = ()
        self._touched: set[tuple[str, str]] = set()
        self._through: frozenset[str] = frozenset()
        self._chosen = experts_chosen(reference.config)
        self.routing_flips = 0
        self.unjudged = 0
        self.compared = tuple(self.relations)
        # What a found record could not tell is missing as well: it was not compared.
        self.missing = (*missing, *family.unidentified)
        self.prints: dict[str, Fingerprint] = {}

    def distances(
        self, prompt: Prompt, *, keep: bool = True, fingerprinted: bool = False
    ) -> list[Row]:
        """Run a prompt on all sides and give one row per site, in forward order, not yet judged.

        With `fingerprinted` the port's activations are added to its fingerprints.
        """
        expected = self.reference.activations(prompt, keep=keep)
        oracle = expected
        if self.reference.oracle is not self.reference:
            oracle = self.reference.oracle.activations(prompt, keep=keep)
        if fingerprinted:
            for side, taken in ((self.reference, expected), (self.reference.oracle, oracle)):
                if not side.has_printed(prompt):
                    side.keep_prints(prompt, taken)
        found: dict[str, tuple[Row, Printed | None, NDArray[np.float64] | None]] = {}

        def measure(site: str, actual: Tensor, untouched: Tensor | None = None) -> None:
            if untouched is not None:
                self._touched.add((prompt.prompt_id, site))
            tensors = (actual, expected[site], oracle[site])
            found[site] = self._distance(
                prompt, site, *tensors, untouched=untouched, fingerprinted=fingerprinted
            )

        if self._chosen or self.reference.n_bytes < LARGE:
            self._measure_whole(prompt, expected, oracle, measure)
        else:
            with numerics_of(self.cell.dtype):
                capture_each(self.port, prompt, self.compared, measure)
        for site, (_, printed_of_port, away) in found.items():
            if printed_of_port is not None:
                print_of_site = self.prints.setdefault(site, Fingerprint())
                print_of_site.add(printed_of_port, difference=away)
        self._through = self.port.passed_through()  # known once it has run
        return [found[site][0] for site in self.compared if site in found]

    def _measure_whole(
        self,
        prompt: Prompt,
        expected: Mapping[str, Tensor],
        oracle: Mapping[str, Tensor],
        measure: Callable[[str, Tensor, Tensor | None], None],
    ) -> None:
        """Run the port, then measure; experts only up to where a token went to another one."""
        with numerics_of(self.cell.dtype):
            actual = capture(self.port, prompt, self.compared)
        flips = NO_FLIPS
        real = torch.tensor(prompt.attention_mask, dtype=torch.bool)
        if self.cell.dtype != EXACT:  # where nothing rounds, no tie falls the other way
            flips = flips_between((actual, expected), oracle, chosen=self._chosen, real=real)
        self.routing_flips += flips.number
        for site in self.compared:
            untouched = flips.untouched(site)
            # Before a flip at the first token of every row there may be padding, and nothing else.
            if untouched is not None and not bool((untouched.cpu() & real).any()):
                self.unjudged += 1
                continue
            measure(site, actual[site], untouched)

    def learn_typical_errors(
        self, prompts: Sequence[Prompt], distances: Sequence[Sequence[Row]]
    ) -> None:
        """Keep the reference's root mean square error at each site, over the prompts.

        On a single token the reference's own rounding can be small by luck, and a ratio to it
        large; what rounding does at the site in general is the fair measure.
        """
        self._usual = tuple(prompts)
        by_site: dict[str, list[float]] = {}
        for rows in distances:
            for row in rows:
                by_site.setdefault(row["site"], []).append(row["reference_error"])
        self._typical = {site: root_mean_square(errors) for site, errors in by_site.items()}

    def typical_error(self, site: str) -> float:
        """Give the reference's root mean square error at a site, over the prompts."""
        return self._typical.get(site, 0.0)

    def judged_on(self, prompt: Prompt, rows: Sequence[Row]) -> list[Row]:
        """Judge a prompt's rows; before one is red, ask how far rounding alone goes there.

        Not where nothing rounds, nor where tokens went to other experts.
        """
        judged = [self.judged(row) for row in rows]
        if self._forced or self.cell.dtype == EXACT:
            return judged
        doubtful = {
            row["site"]: self.relations[row["site"]].for_the_reference()
            for row in judged
            if row["verdict"] == "fail"
            and row["error_ratio"] <= OUT_OF_REACH * row["bound"]
            and (prompt.prompt_id, row["site"]) not in self._touched
        }
        if not doubtful:
            return judged
        further = self._further(prompt, doubtful)
        return [self.judged(row, further=further.get(row["site"], 1.0)) for row in rows]

    def _further(self, prompt: Prompt, relations: Mapping[str, Relation]) -> dict[str, float]:
        """Say how many times as far as on the cell's prompts rounding goes on this one, by site."""
        here = spread_at(self.reference, prompt, relations)
        usual = [spread_at(self.reference, each, relations) for each in self._usual]
        found = {}
        for site in relations:
            told = [spread[site] for spread in usual if spread[site]]
            found[site] = here[site] / root_mean_square(told) if told else 1.0
        return found

    def judged(self, row: Row, *, further: float = 1.0) -> Row:
        """Add the error ratio, the bound and the verdict to a row of distances.

        `further`: how many times as far as typically rounding goes on the row's prompt, if asked.
        """
        dtype = self.cell.dtype
        typical = self.typical_error(row["site"]) * max(1.0, further)
        least = max(row["reference_error"], typical, bounds.error_floor(dtype))
        ratio = row["port_error"] / least
        refactored = self.cell.mode.processing.refactor_factored_attn_matrices
        bound = bounds.bound_for(dtype, refactored=refactored) * row["chance_factor"]
        judged_by = row["rel_l2"] if dtype == EXACT else ratio
        good = judged_by <= bound and math.isfinite(row["rel_l2"])
        return {
            **row,
            "typical_error": typical,
            "error_ratio": ratio,
            "bound": bound,
            "passed_through": row["site"] in self._through,
            "verdict": "pass" if good else "fail",
        }

    def deltas(self, prompt: Prompt) -> list[Row]:
        """Run one more prompt and give its judged rows."""
        return self.judged_on(prompt, self.distances(prompt, keep=False))

    def first_failure(self, deltas: Sequence[Row]) -> Row | None:
        """Give the failing row that comes first in forward order; among prompts, the shortest.

        Sites that differ for a reason of their own, by a `local` limitation, are passed over.
        """
        failing = [
            delta
            for delta in deltas
            if delta["verdict"] == "fail" and not differs_by_itself(self.cell, delta["site"])
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

    def leave_out_silent(self, prompt: Prompt) -> None:
        """Run the port once, and count sites whose hooks do not fire among the missing ones."""
        with numerics_of(self.cell.dtype):
            fired = self.port.run(prompt, self.compared)
        self.missing += tuple(site for site in self.compared if site not in fired)
        self.compared = tuple(site for site in self.compared if site in fired)

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

    def positions(self, prompt: Prompt, site: str) -> list[Row]:
        """Say how far apart the sides are at each position of a prompt, at a site."""
        with numerics_of(self.cell.dtype):
            actual = capture(self.port, prompt, self.compared)[site]
        expected = self.reference.activations(prompt, keep=False)[site]
        relation, dtype = self.relations[site], self.cell.dtype
        return list(by_position(actual, expected, prompt, site, relation=relation, dtype=dtype))

    def _distance(
        self,
        prompt: Prompt,
        site: str,
        actual: Tensor,
        expected: Tensor,
        oracle: Tensor,
        *,
        untouched: Tensor | None,
        fingerprinted: bool,
    ) -> tuple[Row, Printed | None, NDArray[np.float64] | None]:
        """Give a site's row, and what its fingerprint keeps: of the port, and of its distance."""
        dtype = self.cell.dtype
        relation = self.relations[site]

        def aligned(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            left, right, counts = entries(left, right, prompt, site, dtype=dtype)
            if untouched is not None:
                counts = counts & spread(untouched, site, counts)
            return left, right, counts

        left, right, counts = aligned(actual, expected)
        kept = size = None
        if fingerprinted and untouched is None:
            kept = self.reference.printed(prompt, site, EQUAL.kind)
            size = self.reference.oracle.printed(prompt, site, EQUAL.kind).square_if_finite
        against = None
        if relation.kind == EQUAL.kind:
            against = identical(left, right, counts, sums=kept.sums_if_finite if kept else None)
        is_same = against is not None
        if against is None:
            against = compare(left, right, relation=relation, counts=counts)
        port_error, reference_error, chance = against.rel_l2, 0.0, 1.0
        if dtype != EXACT:  # there, the reference is its own oracle
            plain = relation.for_the_reference()
            key = (prompt.prompt_id, site, plain.kind)
            # The same for every mode that has this relation, but for what a flip leaves out.
            errors = self.reference.errors if untouched is None else {}
            if key not in errors:
                right, true, counted = aligned(expected, oracle)
                errors[key] = relative_distance(
                    right, true, relation=plain, counts=counted, size=size
                )
            reference_error = port_error = errors[key]
            effective = self.reference.oracle.effective_number(prompt, site, oracle)
            chance = bounds.chance_factor(min(effective, against.compared))
            if not is_same:
                port, true, counted = aligned(actual, oracle)
                port_error = relative_distance(
                    port, true, relation=relation, counts=counted, size=size
                )
        away = None
        if fingerprinted and not (is_same and kept):
            left, right, counts = aligned(actual, expected)
            brought = brought_together(left, right, relation=relation, counts=counts)
            kept, away = self._print_of(brought, prompt, site, port_error)
        row = {
            "prompt_id": prompt.prompt_id,
            "site": site,
            "layer": layer_of(site),
            "tensor_shape": by_x(actual),
            "n_compared": against.compared,
            "relation": relation.kind,
            **numbers(against),
            "reference_error": reference_error,
            "port_error": port_error,
            "chance_factor": chance,
            **logit_numbers(site, actual, expected, real_positions(prompt, actual.device)),
        }
        return row, kept if fingerprinted else None, away

    def _print_of(
        self, brought: Brought, prompt: Prompt, site: str, port_error: float
    ) -> tuple[Printed, NDArray[np.float64] | None]:
        """Give what is kept of the port's tensor, and the sketch of its distance if it has one.

        Below one rounding no bound can be passed, and a port that agrees needs no sketch.
        """
        dtype = self.cell.dtype
        small = bounds.EXACT_BOUND if dtype == EXACT else bounds.error_floor(dtype)
        away = None
        if not port_error <= small:
            difference = brought.actual.double() - brought.expected.double()
            away = sketch(difference, seed=seed_of(site, prompt.prompt_id, difference))
        kept = printed(
            brought.actual,
            number=brought.number,
            masked=brought.actual.numel() - brought.number - brought.nonfinite,
            nonfinite=brought.nonfinite,
        )
        return kept, away
