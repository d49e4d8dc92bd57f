"""Rows: columns as declared values, and their parquet parts, written one per cell and atomically.

A run is a folder: `run.json`, and one folder of parts per kind of row, so that
`pandas.read_parquet("<run>/deltas")` just works. A cell's part in `cells/` is written last: it is
there exactly when all its other rows are. A run that has ended is packed: its parts become one file
per kind, and are read as they were before.
"""

from harness.record.columns import (
    COLUMNS,
    GREEN,
    RED,
    SCHEMA_VERSION,
    TEXT_ORIGIN,
    VERDICTS,
    Column,
    Kind,
    Row,
    schema_of,
)
from harness.record.describing import asked_relation, check_kinds, read_run, read_versions, require
from harness.record.files import point_latest, write_json, write_sealed, write_text
from harness.record.packed import PACKED, Portion
from harness.record.packing import KINDS, pack, write_run
from harness.record.parts import finished_cells, has_part, portions_of
from harness.record.reading import (
    read_cells,
    read_controls,
    read_deltas,
    read_fingerprints,
    read_positions,
    read_prompts,
)
from harness.record.sealing import read_sealed
from harness.record.writing import table_of, write_columns, write_part

__all__ = [
    "COLUMNS",
    "GREEN",
    "KINDS",
    "PACKED",
    "RED",
    "SCHEMA_VERSION",
    "TEXT_ORIGIN",
    "VERDICTS",
    "Column",
    "Kind",
    "Portion",
    "Row",
    "asked_relation",
    "check_kinds",
    "finished_cells",
    "has_part",
    "pack",
    "point_latest",
    "portions_of",
    "read_cells",
    "read_controls",
    "read_deltas",
    "read_fingerprints",
    "read_positions",
    "read_prompts",
    "read_run",
    "read_sealed",
    "read_versions",
    "require",
    "schema_of",
    "table_of",
    "write_columns",
    "write_json",
    "write_part",
    "write_run",
    "write_sealed",
    "write_text",
]
