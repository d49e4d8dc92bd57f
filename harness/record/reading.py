"""Reads the rows of a run into frames, and which of its cells are finished."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RunFolderError
from harness.record.columns import COLUMNS, Kind, schema_of
from harness.record.describing import read_run

if TYPE_CHECKING:
    import pandas as pd


def finished_cells(path: str | Path) -> frozenset[str]:
    """Name the cells of a run whose rows are all there."""
    return frozenset(file.name.removesuffix(".parquet") for file in _parts(Path(path), "cells"))


def read_cells(path: str | Path, *, cell: str = "*") -> pd.DataFrame:
    """Read a run's cells, one row each; all of them, or one by its id."""
    return _read(path, "cells", cell)


def read_deltas(path: str | Path, *, cell: str = "*") -> pd.DataFrame:
    """Read a run's deltas, one row per cell, prompt and site; of all cells, or of one by its id."""
    return _read(path, "deltas", cell)


def read_prompts(path: str | Path, *, cell: str = "*") -> pd.DataFrame:
    """Read a run's prompts, one row per cell and prompt; of all cells, or of one by its id."""
    return _read(path, "prompts", cell)


def read_controls(path: str | Path) -> pd.DataFrame:
    """Read a run's controls, one row per family and port; its cells do not count them."""
    return _read(path, "controls")


def read_positions(path: str | Path, *, cell: str = "*") -> pd.DataFrame:
    """Read how far apart the sides are by position, at each first failing site."""
    return _read(path, "positions", cell)


def read_fingerprints(path: str | Path, *, part: str = "*") -> pd.DataFrame:
    """Read a run's fingerprints: per case and dtype the reference's, per cell the port's."""
    return _read(path, "fingerprints", part)


def _parts(run: Path, kind: Kind, cell: str = "*") -> list[Path]:
    found = (run / kind).glob(f"{cell}.parquet")
    return sorted(file for file in found if file.name[0] != ".")


def _read(path: str | Path, kind: Kind, cell: str = "*") -> pd.DataFrame:
    read_run(path)
    parts = _parts(Path(path), kind, cell)
    if not parts and not (kind != "cells" and finished_cells(path)):
        message = f"{path} has no {kind}: no cell of it finished; run it again, or --resume it"
        raise RunFolderError(message)
    schema = schema_of(kind)
    tables = [schema.empty_table(), *(_read_part(part, kind, schema) for part in parts)]
    frame: pd.DataFrame = pa.concat_tables(tables).unify_dictionaries().to_pandas()
    return frame


def _read_part(part: Path, kind: Kind, schema: pa.Schema) -> pa.Table:
    """Read one part. Arrow itself would fill a column that the part lacks with nulls."""
    try:
        table = pq.ParquetFile(part).read()
        odd = {column.name for column in COLUMNS[kind]}.symmetric_difference(table.column_names)
        table = table if odd else table.select(schema.names).cast(schema)
    except (OSError, pa.ArrowInvalid) as error:
        message = f"{part} cannot be read ({error}); delete it and --resume the run"
        raise RunFolderError(message) from error
    if odd:
        message = f"{part}: unknown or absent columns {sorted(odd)}; delete it and --resume the run"
        raise RunFolderError(message)
    return table
