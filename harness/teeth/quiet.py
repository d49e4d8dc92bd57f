"""Clean cells, asked again and again in other ways: how often is one red that should not be?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from harness.case import EXACT, Cell
from harness.measure.drawing import draw_prompts
from harness.measure.outcome import Plan
from harness.measure.probes.padding import padded
from harness.measure.prompts import Vocabulary
from harness.measure.question import cell_of
from harness.measure.references import References
from harness.measure.run import measure_cell
from harness.models.ports import load_port
from harness.record import read_cells
from harness.teeth.exam import on_threads
from harness.teeth.scoring import bank_plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.case import Case, Prompt
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner

MODES: Final = ("hf_sdpa", "bridge", "bridge_compat")
DRAWN: Final = 4
SIDES: Final[tuple[Literal["left", "right"], ...]] = ("left", "left", "right", "right")
THREADS: Final = (1, 1, 1, 1, 2)
"""By seed in turn. Sums of threads are added in another order: rounding that no fault is behind.

Two threads take many times as long for tensors so small, so that one seed of five has them.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """The verdict on one clean cell, asked with the prompts of one seed on so many threads.

    Or why it was not asked: `unavailable`, with seed -1.
    """

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
    """Measure a case's clean ports with the prompts of each seed, on one thread and on two.

    A port is clean if in exact mode it agrees on the bank. Of one that does not, or that refuses,
    one row says why it is not asked.
    """
    references = References()
    for mode in MODES:
        cell = Cell(case=case, loading_mode=mode, dtype=dtype)
        config = references.of(cell).checkpoint.config
        exact = measure_cell(
            replace(cell, dtype=EXACT),
            run_id="quiet",
            references=references,
            plan=bank_plan(config),
        )
        if exact.verdict != "pass":
            reason = str(exact.row["reason"]).splitlines()[0]
            if exact.verdict != "unavailable":
                reason = f"differs on the bank in exact mode: {reason}"
            yield _row(
                cell, seed=-1, threads=1, verdict="unavailable", reason=reason, row=exact.row
            )
            continue
        load = _LoadedOnce()
        vocabulary = Vocabulary.of(config, padding=True)
        for seed in seeds:
            threads = THREADS[seed % len(THREADS)]
            plan = Plan(prompts=prompts_of(vocabulary, seed), shrink_seconds=0.0)
            with on_threads(threads):
                found = measure_cell(
                    cell, run_id="quiet", references=references, plan=plan, load=load
                )
            row = found.row
            reason = str(row["reason"] or "")
            yield _row(
                cell, seed=seed, threads=threads, verdict=found.verdict, reason=reason, row=row
            )


class _LoadedOnce:
    """Loads a port, and gives it again."""

    def __init__(self) -> None:
        self._loaded: Runner | None = None

    def __call__(self, cell: Cell, checkpoint: Checkpoint) -> Runner:
        if self._loaded is None:
            self._loaded = load_port(cell, checkpoint)
        return self._loaded


def _row(
    cell: Cell, *, seed: int, threads: int, verdict: str, reason: str, row: Mapping[Any, Any]
) -> Clean:
    return Clean(
        family=cell.case.family,
        variant=cell.case.variant,
        loading_mode=cell.loading_mode,
        dtype=cell.dtype,
        environment="current",
        seed=seed,
        threads=threads,
        verdict=verdict,
        reason=reason,
        worst_rel_l2=row["worst_rel_l2"],
        worst_error_ratio=row["worst_error_ratio"],
    )


def verdicts_in(run: Path, *, environment: str, seed: int) -> list[Clean]:
    """Give the verdicts of a run that another environment measured."""
    rows = read_cells(run)
    return [
        replace(
            _row(
                cell_of({**row.to_dict(), "probe": None}),
                seed=seed,
                threads=1,
                verdict=str(row["verdict"]),
                reason=str(row["reason"] or ""),
                row=row.to_dict(),
            ),
            environment=environment,
        )
        for _, row in rows.iterrows()
    ]
