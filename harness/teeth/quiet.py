"""Clean cells, asked again and again in other ways: how often is one red that should not be?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch

from harness.case import Cell
from harness.measure.drawing import draw_prompts
from harness.measure.outcome import Plan
from harness.measure.probes.padding import padded
from harness.measure.prompts import Vocabulary
from harness.measure.references import References
from harness.measure.run import measure_cell
from harness.models.ports import load_port
from harness.record import read_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from harness.case import Case, Prompt
    from harness.models.ports import Runner

MODES: Final = ("hf_sdpa", "bridge", "bridge_compat")
DRAWN: Final = 4
SIDES: Final[tuple[Literal["left", "right"], ...]] = ("left", "left", "right", "right")
THREADS: Final = (1, 2)
"""Sums of threads are added in another order: rounding that no fault is behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """The verdict on one clean cell, asked with the prompts of one seed on so many threads."""

    family: str
    variant: str
    loading_mode: str
    dtype: str
    environment: str
    seed: int
    threads: int
    verdict: str
    reason: str
    worst_rel_l2: float | None
    worst_error_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietPart:
    """What one process asks at a time: a case's ports in a dtype, with every seed."""

    case: Case
    dtype: str
    seeds: range

    def __str__(self) -> str:
        """Print as `llama-gqa exact`."""
        return f"{self.case.id} {self.dtype}"

    def findings(self) -> list[Clean]:
        """Ask, and give a verdict per port and seed."""
        return list(asked(self.case, self.dtype, self.seeds))


def prompts_of(vocabulary: Vocabulary, seed: int) -> tuple[Prompt, ...]:
    """Give the prompts of a seed: those drawn, and the first of them padded, on a side in turn."""
    drawn = draw_prompts(vocabulary, count=DRAWN, seed=seed)
    pad = vocabulary.special[-1] if vocabulary.special else 0
    by = 1 + seed % 3
    fitting = (each for each in drawn if len(each.tokens[0]) + by <= vocabulary.max_length)
    side = SIDES[seed % len(SIDES)]
    return (*drawn, *(padded(each, side=side, by=by, pad=pad) for each in list(fitting)[:1]))


def asked(case: Case, dtype: str, seeds: range) -> Iterator[Clean]:
    """Measure a case's green ports with the prompts of each seed, on one thread and on two.

    Cells of which a difference is known, and those that a port refuses, are not asked.
    """
    references = References()
    for mode in MODES:
        cell = Cell(case=case, loading_mode=mode, dtype=dtype)
        if cell.limitations:
            continue
        checkpoint = references.of(cell).checkpoint
        vocabulary = Vocabulary.of(checkpoint.config, padding=True)
        kept: list[Runner] = []

        def keeping(cell: Cell, checkpoint: object, kept: list[Runner] = kept) -> Runner:
            if not kept:
                kept.append(load_port(cell, checkpoint))  # type: ignore[arg-type]
            return kept[0]

        for seed in seeds:
            threads = THREADS[seed % len(THREADS)]
            torch.set_num_threads(threads)
            prompts = prompts_of(vocabulary, seed)
            result = measure_cell(
                cell,
                run_id="quiet",
                references=references,
                plan=Plan(prompts=prompts, shrink_seconds=0.0),
                load=keeping,
            )
            if result.verdict == "unavailable":
                break
            yield Clean(
                family=case.family,
                variant=case.variant,
                loading_mode=mode,
                dtype=dtype,
                environment="current",
                seed=seed,
                threads=threads,
                verdict=result.verdict,
                reason=str(result.row["reason"] or ""),
                worst_rel_l2=result.row["worst_rel_l2"],
                worst_error_ratio=result.row["worst_error_ratio"],
            )


def clean_cells(parts: Iterable[QuietPart]) -> tuple[Cell, ...]:
    """Give the cells of which no difference is known: those that are asked."""
    asked_of = (
        Cell(case=part.case, loading_mode=mode, dtype=part.dtype)
        for part in parts
        for mode in MODES
    )
    return tuple(cell for cell in asked_of if not cell.limitations)


def verdicts_in(run: Path, *, environment: str, seed: int) -> list[Clean]:
    """Give the verdicts of a run that another environment measured, but for what it refused."""
    rows = read_cells(run)
    return [
        Clean(
            family=str(row["family"]),
            variant=str(row["variant"]),
            loading_mode=str(row["loading_mode"]),
            dtype=str(row["dtype"]),
            environment=environment,
            seed=seed,
            threads=1,
            verdict=str(row["verdict"]),
            reason=str(row["reason"] or ""),
            worst_rel_l2=row["worst_rel_l2"],
            worst_error_ratio=row["worst_error_ratio"],
        )
        for _, row in rows[rows.verdict != "unavailable"].iterrows()
    ]
