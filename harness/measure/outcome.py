"""How a cell is asked, what is known of it so far, and what it gave in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.case import BY_PROCESSING
from harness.measure.prompts import bank

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from harness.case import Cell, Prompt
    from harness.measure.prompts import Vocabulary
    from harness.models.checkpoints import Checkpoint

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a cell is asked: prompts drawn beside the bank, their seed, time to shrink a failure.

    `prompts` replaces bank and drawing, as in a replay or a gate. All of them are fingerprinted;
    else the bank is, so that a nightly run whose drawn prompts change stays comparable. A
    `lenient` plan counts hooks that never fire among the missing sites: which ones another
    version has is for a gate to judge. `exchange` is the folder in which the two sides of a gate
    leave what they save. `relation` is one of ASKED_RELATIONS: what is forced to be equal
    shows what processing does, and, in `hidden_to_logits`, what conventions do.
    """

    drawn: int = 3
    seed: int = 0
    shrink_seconds: float = 20.0
    lenient: bool = False
    prompts: tuple[Prompt, ...] | None = None
    exchange: Path | None = None
    relation: str = BY_PROCESSING

    @property
    def forced(self) -> bool:
        """Say whether another relation is asked for than the mode's processing gives."""
        return self.relation != BY_PROCESSING

    def prompts_for(self, vocabulary: Vocabulary) -> tuple[Prompt, ...]:
        """Give the prompts to run: those that replace all, or else the bank and drawn ones."""
        if self.prompts is not None:
            return self.prompts
        from harness.measure.drawing import draw_prompts  # noqa: PLC0415 - not in a worker

        drawn = draw_prompts(vocabulary, count=self.drawn, seed=self.seed)
        return tuple({p.prompt_id: p for p in (*bank(vocabulary), *drawn)}.values())


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
    positions: tuple[Row, ...] = ()

    @property
    def verdict(self) -> str:
        """Give the cell's verdict."""
        return str(self.row["verdict"])


RAISED: Final = "a check raised"
"""Stands among the checks that failed, so that one which raises beside them is told from none."""


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
        self.raised = False
        self.checkpoint: Checkpoint | None = None
        self.woken: tuple[str, ...] = ()
        self.routing_flips = 0
        self.unjudged = 0
        self.fingerprinted: frozenset[str] = frozenset()
        self.fingerprints: dict[str, list[Row]] = {}
        self.positions: list[Row] = []

    def counts(self) -> Row:
        """Give the columns of the cell's row that sum up its deltas."""
        compared = self.compared if self.deltas else ()  # a cell that broke off compared nothing
        failing = dict.fromkeys(
            row["check"] for row in self.deltas if row["verdict"] == "fail" and row.get("check")
        )
        raised = [RAISED] if self.raised else []
        return {
            "failing_checks": "; ".join((*failing, *raised)) or None,
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
            "worst_rel_l2": largest(row["rel_l2"] for row in self.deltas),
            "worst_error_ratio": largest(
                row["error_ratio"] / row["chance_factor"] for row in self.deltas
            ),
            "checkpoint_digest": self.checkpoint.digest if self.checkpoint else None,
            "remote_code": _code_of(self.checkpoint),
        }


def largest(values: Iterable[float]) -> float | None:
    """Give the largest; NaN is larger than any number, wherever it stands. None of none."""
    return max(values, key=lambda value: (math.isnan(value), value), default=None)


def _code_of(checkpoint: Checkpoint | None) -> str | None:
    """Name the Python files of a checkpoint that may be run, with their sha256, by spaces."""
    code = checkpoint.code if checkpoint else {}
    return " ".join(f"{name}={digest}" for name, digest in code.items()) or None
