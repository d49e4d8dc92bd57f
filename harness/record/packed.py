"""A packed file: the rows of many parts of one kind, in the order of family, mode and dtype.

Its footer holds a manifest: which parts it has, how many rows each, where they begin. Rows of a
part stand together, and statistics of the axes say which groups of rows a filter can pass over.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import zlib
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RunFolderError
from harness.record.columns import AXES_OF, SCHEMA_VERSION, Kind, encoding_of, plain_schema
from harness.record.sealing import (
    BLANK,
    SEAL,
    check_footer,
    check_indices,
    check_opened,
    seal_footer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

PACKED: Final = "packed.parquet"
"""Name of a packed file; no cell has it, since a cell's has dots."""

ORDER: Final = ("family", "loading_mode", "dtype")
"""What parts are sorted by, as far as their kind has it, and then by their names."""

_BLOCK: Final = 2  # rows of one family and loading mode stand in groups of their own
_GROUP: Final = 16_384
"""Rows from which on a group ends where family or loading mode change. With a quarter of it a file
is 1.7 % larger, its footer three times as long (docs/decisions/0023)."""
_LARGEST: Final = 131_072
"""Rows that a group has at most: what packing holds in memory, 30 MB of deltas."""
_LEVEL: Final = 3
"""Of zstd. 9 takes a third longer, and gives 3.5 % on a real run, 1.5 % on random numbers."""
_MANIFEST: Final = b"parts"
_KINDS: Final = b"packed_kinds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """The rows of one part, wherever they stand: in a file of their own, or in a packed one.

    `of_cell` says whether a cell of the part's name must be finished; a reference's fingerprints
    are no cell's.
    """

    name: str
    key: tuple[str, ...]
    of_cell: bool
    read: Callable[[], pa.Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A packed file that has been opened: its parts in their order, and its groups of rows.

    Attributes:
        file: Where it is.
        kind: Whose rows it has.
        opened: The file.
        parts: The place of each part, by its name.
        begins: Per place the first row of the part, and at last the number of all rows.
        keys: Per place what the part is sorted by.
        alone: Parts that are no cell's.
        kinds: The other kinds that had a packed file when this one was written.
        starts: Per group of rows its first row.
    """

    file: Path
    kind: Kind
    opened: pq.ParquetFile
    parts: Mapping[str, int]
    begins: Sequence[int]
    keys: Sequence[Sequence[str]]
    alone: frozenset[str]
    kinds: frozenset[str]
    starts: Sequence[int]
    _last: dict[int, pa.Table] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def portions(self) -> list[Portion]:
        """Give the parts of the file, each to be read by itself."""
        return [
            Portion(
                name=name,
                key=tuple(self.keys[place]),
                of_cell=name not in self.alone,
                read=partial(self._rows_of, place),
            )
            for name, place in self.parts.items()
        ]

    def _rows_of(self, place: int) -> pa.Table:
        start, end = self.begins[place : place + 2]
        found = [plain_schema(self.kind).empty_table()]
        for group in self.groups_of([(start, end)]):
            first = self.starts[group]
            begin = max(start, first)
            found.append(self._group(group).slice(begin - first, end - begin))
        return pa.concat_tables(found).unify_dictionaries()

    def _group(self, group: int) -> pa.Table:
        """Give a group of rows; parts are asked for in their order, so the last one is kept."""
        with self._lock:
            if group not in self._last:
                self._last.clear()
                self._last[group] = self.read([group], plain_schema(self.kind).names)
            return self._last[group]

    def groups_of(self, kept: Sequence[tuple[int, int]]) -> list[int]:
        """Name the groups that hold a row of any of these ranges, which are in order."""
        ends = (*self.starts[1:], self.opened.metadata.num_rows)
        found, place = [], 0
        for group, (start, end) in enumerate(zip(self.starts, ends, strict=True)):
            while place < len(kept) and kept[place][1] <= start:
                place += 1
            if place < len(kept) and kept[place][0] < end:
                found.append(group)
        return found

    def groups_that_may_hold(self, axes: Mapping[str, Sequence[str]]) -> list[int]:
        """Name the groups whose statistics do not rule out every name of an axis."""
        metadata = self.opened.metadata
        place = {metadata.schema.column(i).name: i for i in range(metadata.num_columns)}

        def may_hold(group: int) -> bool:
            columns = metadata.row_group(group)
            for axis, names in axes.items():
                statistics = columns.column(place[axis]).statistics
                if statistics is None or not statistics.has_min_max:
                    continue
                if not any(statistics.min <= name <= statistics.max for name in names):
                    return False
            return True

        return [group for group in range(metadata.num_row_groups) if may_hold(group)]

    def read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Read columns of some groups.

        Raises:
            RunFolderError: the file is damaged there.
        """
        try:
            table = self.opened.read_row_groups(list(groups), columns=list(columns))
            check_indices(table)
        except (OSError, pa.ArrowException) as error:
            raise RunFolderError(_unreadable(self.file, error)) from error
        # Checksums are of pages, not of their headers, where a bit that turned hides rows.
        ends = (*self.starts[1:], self.begins[-1])
        rows = sum(ends[group] - self.starts[group] for group in groups)
        if table.num_rows != rows:
            told = f"{table.num_rows} rows instead of {rows}"
            raise RunFolderError(_unreadable(self.file, told))
        return table.select(list(columns))


def open_packed(run: Path, kind: Kind) -> Packed | None:
    """Open the packed file of a kind; None if there is none.

    Raises:
        RunFolderError: it is truncated, its footer is not as it was written, it is of another
            schema version, lacks a column, or has other rows than its manifest says.
    """
    file = run / kind / PACKED
    try:
        has_seal = check_footer(file)
        opened = pq.ParquetFile(file, page_checksum_verification=True)
        known = opened.metadata.metadata or {}
        check_schema(file, kind, opened.schema_arrow, _NEXT)
        check_opened(opened, has_seal=has_seal)
        listed = _unpacked(known[_MANIFEST])
        names, sizes, keys, alone = (listed[each] for each in ("names", "rows", "keys", "alone"))
        kinds = json.loads(known[_KINDS])
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, ValueError, zlib.error) as error:
        raise RunFolderError(_unreadable(file, error)) from error
    except KeyError as error:
        raise RunFolderError(_unreadable(file, f"its footer has no {error}")) from error
    parts = {name: place for place, name in enumerate(names)}
    begins = [0, *accumulate(sizes)]
    metadata = opened.metadata
    if begins[-1] != metadata.num_rows or len(parts) != len(sizes):
        told = f"it has {metadata.num_rows} rows, and {begins[-1]} by its manifest"
        raise RunFolderError(_unreadable(file, told))
    groups = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    return Packed(
        file=file,
        kind=kind,
        opened=opened,
        parts=parts,
        begins=begins,
        keys=keys,
        alone=frozenset(alone),
        kinds=frozenset(kinds),
        starts=[0, *accumulate(groups)][:-1],
    )


_NEXT: Final = (
    "restore it from a copy; without one, delete the run's packed files (*/packed.parquet) and "
    "--resume the run, which measures their cells again"
)


def _unreadable(file: Path, why: object) -> str:
    return f"{file} cannot be read ({why}); {_NEXT}"


def check_schema(file: Path, kind: Kind, schema: pa.Schema, then: str) -> None:
    """Refuse a file of other columns or another schema version than this harness writes.

    Raises:
        RunFolderError: says which columns, or which version.
    """
    odd = set(plain_schema(kind).names).symmetric_difference(schema.names)
    if odd:
        message = f"{file}: unknown or absent columns {sorted(odd)}; {then}"
        raise RunFolderError(message)
    found = (schema.metadata or {}).get(b"schema_version", b"none").decode()
    if found != str(SCHEMA_VERSION):
        message = (
            f"{file}: schema_version={found}, but should be {SCHEMA_VERSION}; "
            "read it with the release of the harness that wrote it"
        )
        raise RunFolderError(message)


def write_packed(
    run: Path, kind: Kind, portions: Iterable[tuple[Portion, pa.Table]], *, kinds: Iterable[str]
) -> Path:
    """Write the packed file of a kind; it appears whole or not at all, and is on the disk then.

    Args:
        run: The run's folder.
        kind: Whose rows they are.
        portions: Parts in the order of their keys, each with its rows: only the rows of one group
            are held at once.
        kinds: The other kinds that have a packed file, of which this one is witness.
    """
    folder = run / kind
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{PACKED}.{os.getpid()}"
    listed: dict[str, list[Any]] = {"names": [], "rows": [], "keys": [], "alone": []}
    group: list[pa.Table] = []
    rows, block = 0, None
    try:
        with pq.ParquetWriter(
            scratch,
            plain_schema(kind),
            compression="zstd",
            compression_level=_LEVEL,
            write_statistics=list(AXES_OF[kind]),
            write_page_checksum=True,
            **encoding_of(kind),
        ) as writer:
            for portion, table in portions:
                changes = block != portion.key[:_BLOCK]
                if (changes and rows >= _GROUP) or rows + table.num_rows > _LARGEST:
                    _write_group(writer, group)
                    group, rows = [], 0
                group.append(table)
                rows += table.num_rows
                block = portion.key[:_BLOCK]
                listed["names"].append(portion.name)
                listed["rows"].append(table.num_rows)
                listed["keys"].append(portion.key)
                if not portion.of_cell:
                    listed["alone"].append(portion.name)
            _write_group(writer, group)
            writer.add_key_value_metadata({_MANIFEST: _packed(listed), _KINDS: json.dumps(kinds)})
            writer.add_key_value_metadata({SEAL: BLANK})
        seal_footer(scratch)
        _sync(scratch)
        scratch.replace(folder / PACKED)
        _sync(folder)
    finally:
        scratch.unlink(missing_ok=True)
    return folder / PACKED


def _write_group(writer: pq.ParquetWriter, group: Sequence[pa.Table]) -> None:
    if group:
        table = pa.concat_tables(group).unify_dictionaries().combine_chunks()
        writer.write_table(table, row_group_size=_LARGEST)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk: what it takes the place of is removed then."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _packed(listed: object) -> bytes:
    return base64.b64encode(zlib.compress(json.dumps(listed).encode()))


def _unpacked(manifest: bytes) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = json.loads(zlib.decompress(base64.b64decode(manifest)))
    return found
