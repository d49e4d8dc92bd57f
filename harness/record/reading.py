"""Reads the rows of a run into frames: all of them, or those that a filter by axis asks for."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import RunFolderError, UsageError
from harness.record.columns import AXES_OF, Kind, plain_schema
from harness.record.describing import read_run
from harness.record.parts import (
    check_beside,
    files_of,
    finished_cells,
    in_threads,
    key_columns,
    key_of,
    name_of,
    open_file,
    packed_of,
    read_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    import pandas as pd

    from harness.record.packed import Packed

    Names: TypeAlias = str | Sequence[str]

_TRIES: Final = 3
"""How often a run is listed anew that is being packed meanwhile: a packing happens once."""
_ALL: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of a kind of row: which parts by name, which rows by axis, which columns."""

    kind: Kind
    cell: str
    axes: Mapping[str, Sequence[str]]
    columns: Sequence[str]

    @property
    def read(self) -> list[str]:
        """Give the columns that must be read: those asked for, and those looked at."""
        return list(dict.fromkeys([*self.columns, *self.axes, *key_columns(self.kind)]))

    @property
    def is_narrow(self) -> bool:
        """Say whether some rows of the run may be left out."""
        return self.cell != _ALL or bool(self.axes)

    def admits(self, name: str) -> bool:
        """Say whether a part's name is asked for."""
        return self.cell in {_ALL, name} or fnmatchcase(name, self.cell)

    def rows_of(self, table: pa.Table) -> pa.Table:
        """Give the rows of a table that the filter by axis lets through."""
        for axis, names in self.axes.items():
            wanted = pa.array(names, pa.string())
            table = table.filter(pc.is_in(table[axis].cast(pa.string()), value_set=wanted))
        return table


def read_cells(
    path: str | Path, *, cell: str = _ALL, columns: Sequence[str] | None = None, **axes: Names
) -> pd.DataFrame:
    """Read a run's cells, one row each.

    Of this and the other kinds: all of a run, or those that a filter by axis lets through, such as
    `family="llama"` or `dtype=["exact", "float32"]`; of a packed run no others are read.

    Args:
        path: The run's folder.
        cell: One of them, by its id.
        columns: Which columns; all if it is None.
        axes: A name or several, per axis.

    Raises:
        RunFolderError: the folder is no run, no cell of it finished, or a part cannot be read.
        UsageError: there is no such axis or column.
    """
    return _read(path, "cells", cell, columns, axes)


def read_deltas(
    path: str | Path, *, cell: str = _ALL, columns: Sequence[str] | None = None, **axes: Names
) -> pd.DataFrame:
    """Read a run's deltas, one row per cell, prompt and site; arguments as of `read_cells`."""
    return _read(path, "deltas", cell, columns, axes)


def read_prompts(
    path: str | Path, *, cell: str = _ALL, columns: Sequence[str] | None = None, **axes: Names
) -> pd.DataFrame:
    """Read a run's prompts, one row per cell and prompt; arguments as of `read_cells`."""
    return _read(path, "prompts", cell, columns, axes)


def read_controls(
    path: str | Path, *, columns: Sequence[str] | None = None, **axes: Names
) -> pd.DataFrame:
    """Read a run's controls, one row per family and port; its cells do not count them."""
    return _read(path, "controls", _ALL, columns, axes)


def read_positions(
    path: str | Path, *, cell: str = _ALL, columns: Sequence[str] | None = None, **axes: Names
) -> pd.DataFrame:
    """Read how far apart the sides are by position, at each first failing site."""
    return _read(path, "positions", cell, columns, axes)


def read_fingerprints(
    path: str | Path, *, part: str = _ALL, columns: Sequence[str] | None = None, **axes: Names
) -> pd.DataFrame:
    """Read a run's fingerprints: per case and dtype the reference's, per cell the port's."""
    return _read(path, "fingerprints", part, columns, axes)


def _asked(kind: Kind, cell: str, columns: Sequence[str] | None, axes: Mapping[str, Any]) -> Asked:
    """Check what is asked.

    Raises:
        UsageError: says which axes or columns there are.
    """
    if wrong := sorted(set(axes).difference(AXES_OF[kind])):
        message = f"{kind} cannot be filtered by {', '.join(wrong)}; by {', '.join(AXES_OF[kind])}"
        raise UsageError(message)
    known = plain_schema(kind).names
    if wrong := sorted(set(columns or ()).difference(known)):
        message = f"{kind} has no column {', '.join(wrong)}; it has {', '.join(known)}"
        raise UsageError(message)
    named: dict[str, Sequence[str]] = {}
    for axis, names in axes.items():
        given: list[Any] = [names] if isinstance(names, str) or names is None else list(names)
        if odd := [name for name in given if not isinstance(name, str)]:
            message = f"{kind} cannot be filtered by {axis}={odd[0]!r}; give a name, or several"
            raise UsageError(message)
        named[axis] = given
    return Asked(kind=kind, cell=cell, axes=named, columns=known if columns is None else columns)


def _read(
    path: str | Path,
    kind: Kind,
    cell: str,
    columns: Sequence[str] | None,
    axes: Mapping[str, Names],
) -> pd.DataFrame:
    asked = _asked(kind, cell, columns, axes)
    read_run(path)
    for _ in range(_TRIES):
        try:
            tables = _tables(Path(path), asked)
        except FileNotFoundError:  # packed since it was listed
            continue
        return _frame(asked, tables)
    message = f"{path}: parts of {kind} vanish while they are read; try again"
    raise RunFolderError(message)


def _tables(run: Path, asked: Asked) -> list[pa.Table]:
    # Files first: one that is packed in between is found in the packed file then.
    files = files_of(run, asked.kind)
    packed = packed_of(run, asked.kind)
    newer = {name_of(file) for file in files}
    wanted = [file for file in files if asked.admits(name_of(file))]
    if asked.kind != "cells":
        there = {*newer, *(packed.parts if packed else ())}
        check_beside(run, {asked.kind: there}, of=asked.admits)
    is_packed = packed is not None and any(map(asked.admits, packed.parts))
    if not wanted and not is_packed and (asked.kind == "cells" or not finished_cells(run)):
        message = f"{run} has no {asked.kind}: no cell of it finished; run it again, or --resume it"
        raise RunFolderError(message)
    parts = in_threads(partial(_of_file, asked=asked), wanted)
    found = [table for _, _, table in sorted(parts, key=lambda part: part[:2])]
    return found if packed is None else [*_of_packed(packed, newer, asked), *found]


def _of_file(file: Path, asked: Asked) -> tuple[tuple[str, ...], str, pa.Table]:
    """Give the rows of a part that is a file, with what they are sorted by."""
    opened = open_file(file, asked.kind)
    if asked.axes:
        head = read_columns(file, asked.kind, opened, list(asked.axes))
        if not asked.rows_of(head).num_rows:
            return (), "", _empty(asked)
    table = asked.rows_of(read_columns(file, asked.kind, opened, asked.read))
    return key_of(asked.kind, table), name_of(file), table.select(list(asked.columns))


def _of_packed(packed: Packed, newer: set[str], asked: Asked) -> list[pa.Table]:
    """Give the rows of the packed file, but of parts that are files as well."""
    groups = packed.groups_that_may_hold(asked.axes)
    columns = list(dict.fromkeys([*asked.columns, *asked.axes]))
    if asked.cell == _ALL and newer.isdisjoint(packed.parts):
        tables = [packed.read(groups, columns)] if groups else []
    else:
        kept = _ranges(packed, newer, asked)
        both = sorted(set(groups).intersection(packed.groups_of(kept)))
        tables = _cut(packed, kept, both, columns)
    return [asked.rows_of(table).select(list(asked.columns)) for table in tables]


def _ranges(packed: Packed, newer: set[str], asked: Asked) -> list[tuple[int, int]]:
    """Give from where to where the rows of the asked parts stand, in order and joined."""
    kept: list[tuple[int, int]] = []
    for name, place in packed.parts.items():
        if name in newer or not asked.admits(name):
            continue
        start, end = packed.begins[place : place + 2]
        if kept and kept[-1][1] == start:
            start = kept.pop()[0]
        kept.append((start, end))
    return kept


def _cut(
    packed: Packed, kept: Sequence[tuple[int, int]], groups: Sequence[int], columns: Sequence[str]
) -> list[pa.Table]:
    """Read groups, and of each the rows in the ranges."""
    found = []
    ends = [end for _, end in kept]
    for group in groups:
        table, first = packed.read([group], columns), packed.starts[group]
        last = first + table.num_rows
        for start, end in kept[bisect_right(ends, first) :]:
            if start >= last:
                break
            begin, stop = max(start, first), min(end, last)
            found.append(table.slice(begin - first, stop - begin))
    return found


def _empty(asked: Asked) -> pa.Table:
    return plain_schema(asked.kind).empty_table().select(list(asked.columns))


def _frame(asked: Asked, tables: Sequence[pa.Table]) -> pd.DataFrame:
    table = pa.concat_tables([_empty(asked), *tables]).unify_dictionaries()
    import pandas as pd  # noqa: PLC0415 - a worker, which only writes, has none

    frame: pd.DataFrame = table.to_pandas()
    if asked.is_narrow:  # groups know the names of rows that were left out
        for name in frame.columns:
            if isinstance(frame[name].dtype, pd.CategoricalDtype):
                frame[name] = frame[name].cat.remove_unused_categories()
    return frame
