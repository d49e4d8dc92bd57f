"""What is asked of every version alike: cells, the folders of their checkpoints, and prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.case import Case, Cell, Prompt
from harness.errors import RunFolderError, SelectionError, Unavailable
from harness.models.checkpoints import checkpoint_of
from harness.models.checkpoints.folder import Checkpoint
from harness.record import read_sealed, write_sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Cells, and for each case its checkpoint and its prompts, by the case's id.

    `absent` are the cases of which there is no checkpoint, each with the reason. `exchange` is the
    folder in which the sides of a gate leave what they save for each other.
    """

    cells: tuple[Cell, ...]
    checkpoints: Mapping[str, Checkpoint]
    prompts: Mapping[str, tuple[Prompt, ...]]
    absent: Mapping[str, str] = field(default_factory=dict)
    exchange: Path | None = None

    def checkpoint_of(self, case: Case) -> Checkpoint:
        """Give a case's checkpoint.

        Raises:
            Unavailable: there is none; says why.
        """
        if case.id in self.absent:
            raise Unavailable(self.absent[case.id])
        return self.checkpoints[case.id]

    def write(self, file: Path) -> None:
        """Write it as sealed JSON, for a worker in another environment."""
        content = {
            "cells": [
                {
                    "family": cell.case.family,
                    "variant": cell.case.variant,
                    "checkpoint": cell.case.checkpoint,
                    "loading_mode": cell.loading_mode,
                    "dtype": cell.dtype,
                    "device": cell.device,
                    "probe": cell.probe,
                }
                for cell in self.cells
            ],
            "checkpoints": {
                name: {
                    "path": str(each.path.resolve()),
                    "digest": each.digest,
                    "code": dict(each.code),
                }
                for name, each in self.checkpoints.items()
            },
            "prompts": {
                name: [
                    {
                        "tokens": prompt.tokens,
                        "attention_mask": prompt.attention_mask,
                        "origin": prompt.origin,
                    }
                    for prompt in prompts
                ]
                for name, prompts in self.prompts.items()
            },
            "absent": dict(self.absent),
            "exchange": str(self.exchange.resolve()) if self.exchange else None,
        }
        write_sealed(file, content)

    @classmethod
    def read(cls, file: Path) -> Question:
        """Read what `write` wrote.

        Raises:
            RunFolderError: it cannot be read, or is not as it was written.
        """
        try:
            content = read_sealed(file)
            return cls(
                cells=tuple(map(cell_of, content["cells"])),
                checkpoints={
                    name: Checkpoint(**{**each, "path": Path(each["path"])})
                    for name, each in content["checkpoints"].items()
                },
                prompts={
                    name: tuple(map(prompt_of, prompts))
                    for name, prompts in content["prompts"].items()
                },
                absent=dict(content["absent"]),
                exchange=Path(content["exchange"]) if content["exchange"] else None,
            )
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
        ) as error:
            message = f"{file} is no question ({error!r}); next: delete it, and gate again"
            raise RunFolderError(message) from error


def cell_of(row: Mapping[Any, Any]) -> Cell:
    """Give the cell of a stored row, without limitations: what it says is judged elsewhere."""
    return Cell(
        case=Case(
            family=str(row["family"]),
            variant=str(row["variant"]),
            checkpoint=str(row["checkpoint"]),
        ),
        loading_mode=str(row["loading_mode"]),
        dtype=str(row["dtype"]),
        device=str(row["device"]),
        probe=row["probe"] or None,
    )


def prompt_of(row: Mapping[Any, Any]) -> Prompt:
    """Give the prompt of a stored row."""
    return Prompt(
        tokens=tuple(tuple(map(int, tokens)) for tokens in row["tokens"]),
        attention_mask=tuple(tuple(map(int, mask)) for mask in row["attention_mask"]),
        origin=str(row["origin"]),
    )


def ask(
    cells: Iterable[Cell],
    *,
    drawn: int,
    seed: int,
    made: Mapping[str, Checkpoint | str] = MappingProxyType({}),
) -> Question:
    """Give the question that a selection of cells puts: the bank, and prompts drawn beside it.

    `made` gives, by case, the checkpoints that another release made, or why it could not.

    Raises:
        SelectionError: there is no cell.
    """
    from harness.measure.drawing import draw_prompts  # noqa: PLC0415 - not in a worker
    from harness.measure.prompts import Vocabulary, bank  # noqa: PLC0415 - the same

    asked = _in_order(cells)
    checkpoints: dict[str, Checkpoint] = {}
    prompts: dict[str, tuple[Prompt, ...]] = {}
    absent: dict[str, str] = {}
    for name, case in {cell.case.id: cell.case for cell in asked}.items():
        found = made[name] if name in made else checkpoint_or_why_not(case)
        if isinstance(found, str):
            absent[name] = found
            continue
        vocabulary = Vocabulary.of(found.config, padding=True)
        drawn_too = (*bank(vocabulary), *draw_prompts(vocabulary, count=drawn, seed=seed))
        checkpoints[name] = found
        prompts[name] = tuple({prompt.prompt_id: prompt for prompt in drawn_too}.values())
    return Question(cells=asked, checkpoints=checkpoints, prompts=prompts, absent=absent)


def checkpoint_or_why_not(case: Case) -> Checkpoint | str:
    """Give a case's checkpoint, or why this machine has none."""
    try:
        return checkpoint_of(case)
    except Unavailable as reason:
        return str(reason)


def ask_again(cells: Iterable[Cell], prompts: Mapping[str, Sequence[Prompt]]) -> Question:
    """Give the question that a recorded run or baseline answered: its cells on its prompts.

    A case of which probes alone ran has no prompts kept: it is asked on the bank.

    Raises:
        SelectionError: there is no cell.
    """
    from harness.measure.prompts import Vocabulary, bank  # noqa: PLC0415 - not in a worker

    asked = _in_order(cells)
    checkpoints: dict[str, Checkpoint] = {}
    again: dict[str, tuple[Prompt, ...]] = {}
    absent: dict[str, str] = {}
    for name, case in {cell.case.id: cell.case for cell in asked}.items():
        found = checkpoint_or_why_not(case)
        if isinstance(found, str):
            absent[name] = found
            continue
        checkpoints[name] = found
        kept = prompts.get(name)
        again[name] = tuple(kept or bank(Vocabulary.of(found.config, padding=True)))
    return Question(cells=asked, checkpoints=checkpoints, prompts=again, absent=absent)


def _in_order(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Put the cells of a case together, in the order given: they share its reference."""
    by_case: dict[str, list[Cell]] = {}
    for cell in cells:
        by_case.setdefault(cell.case.id, []).append(cell)
    if not by_case:
        message = "the selection selects no cell; leave an option out, or name another value"
        raise SelectionError(message)
    return tuple(cell for group in by_case.values() for cell in group)
