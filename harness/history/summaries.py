"""A run's cells in one small file: what a history reads of it.

A run has a parquet part per cell, of which a year of nightly runs has millions. The summary holds a
few columns of all, sorted by family, so that one family's are read and no others. It is made when a
history first reads the run, and made again when the run has got other parts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RunFolderError
from harness.record import SCHEMA_VERSION, finished_cells, read_cells
from harness.record.sealing import BLANK, SEAL, check_footer, check_opened, seal_footer

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "summary.parquet"
_MADE_OF: Final = b"made_of"
_ROWS: Final = 8192
"""Rows of a group: what is read at once of a family."""

LABELS: Final = (
    *("cell_id", "family", "variant", "checkpoint", "loading_mode", "dtype", "device", "probe"),
    *("verdict", "first_site", "checkpoint_digest"),
)
SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in LABELS),
        ("worst_rel_l2", pa.float64()),
        ("worst_error_ratio", pa.float64()),
    ]
)


def summary_of(run: Path) -> Path:
    """Give the summary of a run, made if there is none or the run has other parts by now.

    Raises:
        RunFolderError: the folder is no run, of another schema version, or has no cell.
    """
    file, made_of = run / FILE, _parts_of(run)
    if file.is_file() and _read_made_of(file) == made_of:
        return file
    table = pa.Table.from_pandas(
        read_cells(run, columns=SCHEMA.names), SCHEMA, preserve_index=False
    )
    write_summary(run, table, made_of=made_of)
    return file


def write_summary(run: Path, table: pa.Table, *, made_of: bytes | None = None) -> None:
    """Write a run's summary; it appears whole or not at all."""
    made_of = _parts_of(run) if made_of is None else made_of
    scratch = run / f".{FILE}.{os.getpid()}"
    table = table.cast(SCHEMA).sort_by([("family", "ascending"), ("cell_id", "ascending")])
    table = table.replace_schema_metadata()
    with pq.ParquetWriter(
        scratch, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table, row_group_size=_ROWS)
        writer.add_key_value_metadata({_MADE_OF: made_of, SEAL.encode(): BLANK.encode()})
    seal_footer(scratch)
    scratch.replace(run / FILE)


def _parts_of(run: Path) -> bytes:
    """Give what tells a run's parts from others: how many there are, and when the last came."""
    folder = run / "cells"
    if not folder.is_dir():
        message = f"{run} has no cells: no cell of it finished; run it again, or --resume it"
        raise RunFolderError(message)
    number = len(finished_cells(run))
    return f"{SCHEMA_VERSION} {number} {folder.stat().st_mtime_ns}".encode()


def _read_made_of(file: Path) -> bytes | None:
    try:
        has_seal = check_footer(file)
        opened = pq.ParquetFile(file)
        check_opened(opened, has_seal=has_seal)
    except (OSError, ValueError, pa.ArrowException):
        return None  # a summary is no evidence: what cannot be read is made again
    return (opened.metadata.metadata or {}).get(_MADE_OF)
