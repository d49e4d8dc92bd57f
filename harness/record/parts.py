"""The parts of a run: files of one cell each, and those in the packed file beside them.

One rule holds for both, whenever a session or a packing was killed: a file takes the place of what
the packed file holds under its name. It is the same, or newer.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RunFolderError
from harness.record.columns import Kind, plain_schema
from harness.record.packed import ORDER, PACKED, Packed, Portion, check_schema, open_packed
from harness.record.sealing import check_indices, check_opened, is_sealed
from harness.record.writing import BESIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

_Found = TypeVar("_Found")

_NEXT: Final = "delete it and --resume the run"
_FEW: Final = 8
"""Files from which on threads gain more than they cost to start."""
_AHEAD: Final = 64
"""Parts that are read at once while others are written."""
_EVIDENCE: Final = frozenset({"cells", "controls"})
"""Kinds whose rows stand for themselves; all others are of cells that finished."""


def files_of(run: Path, kind: Kind) -> list[Path]:
    """List the parts that are files of their own."""
    found = (run / kind).glob("*.parquet")
    return sorted(file for file in found if file.name[0] != "." and file.name != PACKED)


def name_of(file: Path) -> str:
    """Give the name of a part: its cell's, or that of a reference's fingerprints."""
    return file.name.removesuffix(".parquet")


def finished_cells(path: str | Path) -> frozenset[str]:
    """Name the cells of a run whose rows are all there.

    Raises:
        RunFolderError: the packed file of cells cannot be read.
    """
    # Files first: one that is packed in between is found in the packed file then.
    files = files_of(Path(path), "cells")
    packed = open_packed(Path(path), "cells")
    return frozenset([*map(name_of, files), *(packed.parts if packed else ())])


def has_part(run: Path, kind: Kind, name: str) -> bool:
    """Say whether a run has a part, be it packed."""
    if (run / kind / f"{name}.parquet").is_file():
        return True
    packed = open_packed(run, kind)
    return packed is not None and name in packed.parts


def packed_of(run: Path, kind: Kind) -> Packed | None:
    """Open the packed file of a kind, and see that it and the packed cells belong together.

    Raises:
        RunFolderError: it cannot be read, is gone, or has rows of cells that did not finish.
    """
    packed = open_packed(run, kind)
    if kind == "cells":
        return packed
    if packed is None:
        cells = open_packed(run, "cells")
        # Packed in between is no loss: then the file is there by now.
        if cells is None or kind not in cells.kinds or (run / kind / PACKED).is_file():
            return open_packed(run, kind)
        message = (
            f"{run / kind / PACKED} is gone: cells/{PACKED} was written beside it\n"
            "  next:    restore it from a copy; without one, measure the run again"
        )
        raise RunFolderError(message)
    if lost := sorted(packed.parts.keys() - packed.alone - finished_cells(run)):
        message = (
            f"{packed.file} has rows of {len(lost)} cells that cells/ lacks: {', '.join(lost[:3])}"
            f"{' …' if len(lost) > 3 else ''}\n"  # noqa: PLR2004 - as many as are shown
            f"  allowed: rows of finished cells alone\n"
            f"  next:    restore cells/{PACKED} from a copy, or --resume the run, "
            "which measures these cells again"
        )
        raise RunFolderError(message)
    return packed


def open_file(file: Path, kind: Kind) -> pq.ParquetFile:
    """Open a part that is a file, and see that it is as it was written.

    Arrow would fill a column that it lacks with nulls.

    Raises:
        RunFolderError: it is damaged, has other columns or another schema version.
        FileNotFoundError: it was packed since it was listed.
    """
    try:
        content = file.read_bytes()
        has_seal = is_sealed(content)
        opened = pq.ParquetFile(pa.BufferReader(content))
        schema = opened.schema_arrow
        check_opened(opened, has_seal=has_seal)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunFolderError(_unreadable(file, error)) from error
    check_schema(file, kind, schema, _NEXT)
    return opened


def read_columns(
    file: Path, kind: Kind, opened: pq.ParquetFile, columns: Sequence[str]
) -> pa.Table:
    """Read columns of a part that is a file, in the order asked for.

    Raises:
        RunFolderError: it is damaged, or what it holds is not of the columns' types.
    """
    schema = pa.schema([plain_schema(kind).field(name) for name in columns])
    try:
        # Parts are small and many: threads read several, and none is read by several.
        table = opened.read(columns=list(columns), use_threads=False).select(list(columns))
        table = table if table.schema.equals(schema) else table.cast(schema)
        check_indices(table)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunFolderError(_unreadable(file, error)) from error
    if table.num_rows != opened.metadata.num_rows:  # a page's header that is damaged hides rows
        told = f"{table.num_rows} rows instead of {opened.metadata.num_rows}"
        raise RunFolderError(_unreadable(file, told))
    return table


def _unreadable(file: Path, why: object) -> str:
    return f"{file} cannot be read ({why}); {_next(file)}"


def _next(file: Path) -> str:
    """Say what to delete: a cell whose own row is there is not measured again."""
    row = file.parents[1] / "cells" / file.name
    if file.parent.name == "cells" or file.name == PACKED:
        return _NEXT
    if row.is_file():
        return f"delete it and {row}, then --resume the run"
    return f"delete it and a row of its case in {row.parent}, then --resume the run"


def in_threads(task: Callable[[Path], _Found], files: Sequence[Path]) -> list[_Found]:
    """Do something to each of many small files, side by side."""
    if len(files) < _FEW:
        return [task(file) for file in files]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(task, files))


def key_of(kind: Kind, table: pa.Table) -> tuple[str, ...]:
    """Give what a part is sorted by; a part has one family, mode and dtype."""
    names = set(plain_schema(kind).names)
    first = table.slice(0, 1)
    return tuple(
        (first[name][0].as_py() or "") if name in names and table.num_rows else "" for name in ORDER
    )


def key_columns(kind: Kind) -> list[str]:
    """Give the columns that `key_of` looks at."""
    names = set(plain_schema(kind).names)
    return [name for name in ORDER if name in names]


def portion_of(file: Path, kind: Kind) -> Portion:
    """Give a part that is a file as a portion, whose rows are read when they are asked for."""
    opened = open_file(file, kind)
    head = read_columns(file, kind, opened, [*key_columns(kind), "cell_id"])
    own = kind not in _EVIDENCE and head["cell_id"].null_count < max(head.num_rows, 1)

    def read() -> pa.Table:
        return read_columns(file, kind, open_file(file, kind), plain_schema(kind).names)

    return Portion(name=name_of(file), key=key_of(kind, head), of_cell=own, read=read)


def check_beside(
    run: Path,
    there: Mapping[Kind, Collection[str]],
    *,
    of: Callable[[str], bool] = lambda _: True,
) -> None:
    """See that the parts are there of which the cells that are files of their own are witness.

    Args:
        run: The run's folder.
        there: The names of those that are, by the kinds that are asked for.
        of: Which cells are asked for.

    Raises:
        RunFolderError: one is gone, or a cell's part cannot be read.
    """
    files = [file for file in files_of(run, "cells") if of(name_of(file))]
    named = frozenset().union(*in_threads(_beside, files))
    for kind, names in there.items():
        start = f"{kind}/"
        wanted = {part.removeprefix(start) for part in named if part.startswith(start)}
        for name in sorted(wanted.difference(names)):
            if not has_part(run, kind, name):  # it was not packed in between
                message = (
                    f"{run / kind / name}.parquet is gone, of a cell that has finished\n"
                    "  next:    restore it from a copy; without one, delete the cell's part of "
                    "cells/ and --resume the run, which measures it again"
                )
                raise RunFolderError(message)


def _beside(file: Path) -> list[str]:
    """Name the parts that were there when a cell's own part was written."""
    try:
        known = open_file(file, "cells").metadata.metadata or {}
    except FileNotFoundError:  # packed since it was listed: then its manifest is witness
        return []
    named: list[str] = json.loads(known.get(BESIDE.encode(), b"[]"))
    return named


def portions_of(run: Path, kind: Kind) -> list[Portion]:
    """Give all parts of a kind, packed or not, each to be read by itself, in their order.

    Raises:
        RunFolderError: one cannot be read, or is gone.
    """
    files = files_of(run, kind)
    packed = packed_of(run, kind)
    if kind != "cells":
        check_beside(run, {kind: {*map(name_of, files), *(packed.parts if packed else ())}})
    found = in_threads(partial(portion_of, kind=kind), files)
    newer = {portion.name for portion in found}
    found += [each for each in (packed.portions() if packed else ()) if each.name not in newer]
    return in_order(found)


def in_order(portions: Sequence[Portion]) -> list[Portion]:
    """Sort parts as a packed file has them."""
    return sorted(portions, key=lambda portion: (portion.key, portion.name))


def read_ahead(portions: Sequence[Portion]) -> Iterator[tuple[Portion, pa.Table]]:
    """Read parts one after the other, a few at once."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(portions), _AHEAD):
            some = portions[start : start + _AHEAD]
            yield from zip(some, pool.map(lambda portion: portion.read(), some), strict=True)
