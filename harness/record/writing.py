"""Writes rows as parquet parts, one per cell and atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from harness.record.columns import COLUMNS, Kind, Row, encoding_of, plain_schema, schema_of
from harness.record.files import becoming, write_json
from harness.record.sealing import BLANK, SEAL, seal_part

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

BESIDE: Final = "beside"
"""The key under which the footer of a cell's own part names the cell's other parts."""


def table_of(kind: str, rows: Sequence[Row]) -> pa.Table:
    """Make a table of rows, and refuse unknown, absent and wrongly missing values.

    Arrow itself drops unknown keys in silence and does not hold its own `nullable=False`.

    Raises:
        ValueError: a row has a key that is no column, lacks one, or has None where it must not.
    """
    columns = COLUMNS[kind]
    names = {column.name for column in columns}
    for row in rows:
        if odd := names.symmetric_difference(row):
            message = f"{kind} row: unknown or absent columns {sorted(odd)}"
            raise ValueError(message)
        for column in columns:
            if row[column.name] is None and not column.missing:
                message = f"{kind} row: {column.name} is missing and may not be"
                raise ValueError(message)
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema_of(kind))


def write_part(
    run: Path, kind: Kind, name: str, rows: Sequence[Row], *, beside: Collection[str] = ()
) -> None:
    """Write the rows of one cell as one part; it appears sealed and whole, or not at all.

    What the columns mean is written once, by `write_columns`: in each of thousands of parts it
    would be a quarter of the run.

    Args:
        run: The run's folder.
        kind: Whose rows they are.
        name: The cell's, or what a reference's fingerprints are called.
        rows: The rows.
        beside: Parts that are there by now, as `deltas/<name>`, of which this one is witness.

    Raises:
        ValueError: the name is none of a file, such as one that leads elsewhere.
    """
    if not name or name.startswith(".") or Path(name).name != name:
        message = f"{name!r} is no name of a part of {run}: it would be a file elsewhere, or hidden"
        raise ValueError(message)
    folder = run / kind
    folder.mkdir(parents=True, exist_ok=True)
    table = table_of(kind, rows).cast(plain_schema(kind))
    with becoming(folder / f"{name}.parquet") as scratch:
        # Without statistics, which nobody filters one cell's rows by: a run has thousands of parts.
        with pq.ParquetWriter(
            scratch,
            table.schema,
            compression="zstd",
            compression_level=9,
            write_statistics=False,
            write_page_checksum=True,  # a part lies about until the run is packed
            **encoding_of(kind),
        ) as writer:
            writer.write_table(table)
            known = {BESIDE: json.dumps(sorted(beside))} if beside else {}
            writer.add_key_value_metadata({**known, SEAL: BLANK})
        seal_part(scratch)


def write_columns(run: Path) -> None:
    """Write columns.json: for each kind of row every column, its type, what it means."""
    described = {
        kind: [
            {"name": each.name, "type": str(each.type), "doc": each.doc, "missing": each.missing}
            for each in columns
        ]
        for kind, columns in COLUMNS.items()
    }
    write_json(run / "columns.json", described)
