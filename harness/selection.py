"""Which cells of the matrix are asked for, and what to say of a name that is not in it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.case import (
    DEFAULT_DTYPES,
    DEFAULT_MODES,
    DEVICES,
    DTYPES,
    LOADING_MODES,
    Case,
    Cell,
)
from harness.errors import SelectionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

AXES: Final = ("family", "variant", "mode", "dtype", "device", "checkpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The values asked for on each axis; an empty tuple asks for the default."""

    family: tuple[str, ...] = ()
    variant: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    dtype: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    checkpoint: tuple[str, ...] = ()

    def admits(self, cell: Cell) -> bool:
        """Say whether the cell is asked for."""
        values = {
            "family": cell.case.family,
            "variant": cell.case.variant,
            "mode": cell.loading_mode,
            "dtype": cell.dtype,
            "device": cell.device,
            "checkpoint": cell.case.checkpoint,
        }
        return all(not getattr(self, axis) or values[axis] in getattr(self, axis) for axis in AXES)

    def asked(self) -> dict[str, tuple[str, ...]]:
        """Give the axes on which something is asked for: what a run stores, to be resumed."""
        return {axis: getattr(self, axis) for axis in AXES if getattr(self, axis)}


def values_of(words: Collection[str]) -> tuple[str, ...]:
    """Split repeated and comma-separated options into single values.

    Raises:
        SelectionError: an option was given that names nothing, as an unset shell variable does;
            it would ask for everything.
    """
    values = tuple(value for word in words for value in word.split(",") if value)
    if words and not values:
        message = f"an option names nothing ({', '.join(map(repr, words))}); leave it out for all"
        raise SelectionError(message)
    return values


def check_names(selection: Selection, *, families: Iterable[str], variants: Iterable[str]) -> None:
    """Refuse every name that is not in the matrix.

    Raises:
        SelectionError: an unknown name; says the nearest and lists all.
    """
    known = {
        "family": sorted(families),
        "variant": sorted(set(variants)),
        "mode": list(LOADING_MODES),
        "dtype": list(DTYPES),
        "device": list(DEVICES),
    }
    for axis, names in known.items():
        for value in getattr(selection, axis):
            if value not in names:
                near = difflib.get_close_matches(value, names, n=1, cutoff=0.4)
                nearest = f"did you mean {near[0]!r}? " if near else ""
                message = f"unknown {axis} {value!r}; {nearest}known: {', '.join(names)}"
                raise SelectionError(message)


def cells_of(cases: Iterable[Case], selection: Selection) -> tuple[Cell, ...]:
    """Give every cell of the cases: all loading modes × dtypes × devices asked for.

    Without a word on mode, dtype and device these are the default ones. Large checkpoints come
    first, so that no worker is left with one at the end.
    """
    by_size = sorted(cases, key=lambda case: case.checkpoint == "synthetic")
    return tuple(
        Cell(case=case, loading_mode=mode, dtype=dtype, device=device)
        for case in by_size
        for mode in (selection.mode or DEFAULT_MODES)
        for dtype in (selection.dtype or DEFAULT_DTYPES)
        for device in (selection.device or ("cpu",))
    )
