"""Packs a run that has ended: its thousands of small parts become one file per kind.

A part is written when its cell has finished, so that a killed session loses none; reading thousands
takes a minute. A crash at any step of packing neither loses nor doubles a row: the packed file
appears whole, with all that the one before it held; only then are the small parts removed, and
until then they take the place of the same rows in it. Cells come last, as they are written last.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, get_args

from filelock import FileLock, Timeout

from harness.errors import RunFolderError
from harness.record.columns import Kind
from harness.record.describing import read_run
from harness.record.packed import PACKED, open_packed, write_packed
from harness.record.parts import (
    check_beside,
    files_of,
    finished_cells,
    in_order,
    in_threads,
    name_of,
    packed_of,
    portion_of,
    read_ahead,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.record.packed import Portion

KINDS: Final[tuple[Kind, ...]] = (*(kind for kind in get_args(Kind) if kind != "cells"), "cells")
"""All kinds of rows, cells last."""


def pack(run: Path) -> int:
    """Pack the parts of a run's finished cells; give how many files became rows of a packed one.

    What an unfinished cell has written stays as it is: a resumed run writes it again.

    Raises:
        RunFolderError: the folder is no run, a part cannot be read, or another process packs it.
    """
    read_run(run)
    try:
        with FileLock(run / ".packing", timeout=0):
            finished = finished_cells(run)
            check_beside(run, {kind: set(map(name_of, files_of(run, kind))) for kind in KINDS})
            return sum(_pack(run, kind, finished) for kind in KINDS)
    except Timeout as error:
        message = f"{run} is being packed by another process; wait until it has done it"
        raise RunFolderError(message) from error


def _pack(run: Path, kind: Kind, finished: frozenset[str]) -> int:
    for scratch in (run / kind).glob(f".{PACKED}.*"):  # of a packing that was killed
        scratch.unlink()
    found = in_threads(partial(portion_of, kind=kind), files_of(run, kind))
    new = [each for each in found if not each.of_cell or each.name in finished]
    if not new:
        return 0
    newer = {portion.name for portion in new}
    packed = packed_of(run, kind)
    kept = [each for each in (packed.portions() if packed else ()) if each.name not in newer]
    write_portions(run, kind, [*new, *kept])
    open_packed(run, kind)  # what cannot be read takes no part's place
    for name in newer:
        (run / kind / f"{name}.parquet").unlink()
    return len(new)


def write_portions(run: Path, kind: Kind, portions: Sequence[Portion]) -> None:
    """Write parts as the packed file of a kind, in their order.

    Cells are witness of the other kinds that are packed by then.
    """
    kinds = [other for other in KINDS if kind == "cells" and (run / other / PACKED).is_file()]
    write_packed(run, kind, read_ahead(in_order(portions)), kinds=kinds)


def write_run(run: Path, kinds: Mapping[Kind, Sequence[Portion]]) -> None:
    """Write all rows of a new run packed, as a merge does."""
    for kind in KINDS:
        if portions := kinds.get(kind):
            write_portions(run, kind, portions)
