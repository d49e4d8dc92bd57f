"""Rows: columns as declared values, and their parquet parts, written one per cell and atomically.

A run is a folder: `run.json`, and one folder of parts per kind of row, so that
`pandas.read_parquet("<run>/deltas")` just works. A cell's part in `cells/` is written last: it is
there exactly when all its other rows are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from packaging.version import Version

from harness.case import BY_PROCESSING
from harness.errors import RunFolderError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION: Final = 4
Kind = Literal["cells", "controls", "deltas", "fingerprints", "positions", "prompts"]
Row = Mapping[str, Any]

VERDICTS: Final = ("pass", "fail", "known", "stale", "error", "unavailable")
GREEN: Final = frozenset({"pass", "known"})
RED: Final = frozenset({"fail", "stale", "error"})

TEXT_ORIGIN: Final = "text:"
"""What the origin of a prompt begins with whose tokens a tokenizer made of a text."""

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
# What is measured of a site needs no more than seven digits, and millions of rows no more bytes.
_MEASURED = pa.float32()
_LABEL = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name, its type, what it means; `missing` says when it may be null."""

    name: str
    type: pa.DataType
    doc: str
    missing: str = ""


def _column(name: str, kind: pa.DataType, doc: str, missing: str = "") -> Column:
    return Column(name=name, type=kind, doc=doc, missing=missing)


_AXES: Final = (
    _column("run_id", _LABEL, "folder name of the run that measured it, a shard's if merged"),
    _column("cell_id", _LABEL, "case, loading mode, dtype (and device if not cpu), by dots"),
    _column("family", _LABEL, "architecture"),
    _column("variant", _LABEL, "the family's configuration variant"),
    _column("checkpoint", _LABEL, "kind and name of the checkpoint"),
    _column("port", _LABEL, "what was compared with the reference"),
    _column("loading_mode", _LABEL, "how the port was loaded"),
    _column("dtype", _LABEL, "exact (true float64), float32, bfloat16 or float16"),
    _column("device", _LABEL, "cpu, cuda or mps"),
    _column("probe", _LABEL, "what the model was asked of itself", "port and reference compared"),
)

_NO_AXES_OF_PRINTS: Final = frozenset({"cell_id", "port", "loading_mode", "probe"})
_AXES_OF_CONTROLS: Final = frozenset(
    {"run_id", "cell_id", "family", "port", "loading_mode", "dtype"}
)
_NOT_RUN: Final = "the cell did not run to its end"
_NOT_LOGITS: Final = "the site is not `logits`"
_NOT_PORT: Final = "the side is no port"

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "cells": (
        *_AXES,
        _column("verdict", _LABEL, f"one of {', '.join(VERDICTS)}"),
        _column("reason", _TEXT, "why, in words, for every verdict but pass", "the cell passed"),
        _column("failing_checks", _TEXT, "the probe's checks that failed, by `; `", "none failed"),
        _column("first_site", _TEXT, "first failing site in forward order", "no site failed"),
        _column("first_prompt_id", _TEXT, "smallest prompt known to fail there", "no site failed"),
        _column("tightest_relation", _TEXT, "relation that holds at it", "no site failed"),
        _column("limitation", _TEXT, "link of the limitation on the case", "there is none"),
        _column("sites_compared", _WHOLE, "sites compared, over all prompts the same"),
        _column("sites_passed_through", _WHOLE, "of these, computed by the reference's own code"),
        _column("sites_missing", _WHOLE, "sites of the reference that the port lacks"),
        _column("missing_sites", _TEXT, "their names, by spaces"),
        _column("n_prompts", _WHOLE, "prompts run"),
        _column("routing_flips", _WHOLE, "tokens sent to other experts than the oracle's"),
        _column("unjudged", _WHOLE, "sites × prompts with no position before the first flip"),
        _column("worst_rel_l2", _REAL, "largest rel_l2 over its deltas", _NOT_RUN),
        _column("worst_error_ratio", _REAL, "largest error_ratio ÷ chance_factor", _NOT_RUN),
        _column("checkpoint_digest", _TEXT, "sha256 over the checkpoint's files", _NOT_RUN),
        _column("remote_code", _TEXT, "the checkpoint's own code, file=sha256", "none was run"),
        _column("seconds", _REAL, "wall time of the cell, seconds"),
        _column("peak_rss_mb", _REAL, "peak memory of the process so far, MiB"),
    ),
    "deltas": (
        *_AXES,
        _column("check", _LABEL, "which of the probe's checks", "port and reference compared"),
        _column("power", _MEASURED, "rel_l2 of the nearest mistake", "the check knows of none"),
        _column("prompt_id", _LABEL, "key into prompts"),
        _column("site", _LABEL, "where, in TransformerLens' names without hook_"),
        _column("layer", _WHOLE, "layer of the site", "the site is outside the blocks"),
        _column("tensor_shape", _LABEL, "shape of the port's tensor, e.g. 2x11x20"),
        _column("n_compared", _WHOLE, "values compared: neither padding nor masked out"),
        _column("relation", _LABEL, "sense in which the two must agree here"),
        _column(
            "agrees_as",
            _LABEL,
            "relation by the mode's processing in which a row passes that fails as it was forced",
            "no relation was forced, or the row passes, or fails by its mode's relation too",
        ),
        _column(
            "passed_through", pa.bool_(), "the reference's own code computed the port's tensor"
        ),
        _column("max_abs", _MEASURED, "largest |port - reference| once the relation is taken out"),
        _column("mean_abs", _MEASURED, "mean |port - reference|, likewise"),
        _column("rms", _MEASURED, "root mean square of port - reference, likewise"),
        _column("rel_l2", _MEASURED, "‖port - reference‖ / ‖reference‖, likewise"),
        _column("cosine", _MEASURED, "cosine of port and reference", "one of them is zero"),
        _column("mean_port", _MEASURED, "mean of the port's values, relation not applied"),
        _column(
            "mean_reference", _MEASURED, "mean of the reference's values, relation not applied"
        ),
        _column("std_port", _MEASURED, "their standard deviation, relation not applied"),
        _column("std_reference", _MEASURED, "the same of the reference"),
        _column("raw_max_abs", _MEASURED, "largest |port - reference| with nothing taken out"),
        _column("shift_abs", _MEASURED, "largest part that the relation, or agrees_as, takes out"),
        _column("reference_error", _MEASURED, "rel_l2 of the reference against the oracle"),
        _column("port_error", _MEASURED, "rel_l2 of the port against the oracle"),
        _column("typical_error", _MEASURED, "reference_error, root mean square over prompts"),
        _column(
            "error_ratio",
            _MEASURED,
            "port_error / the largest of reference_error, typical_error and one rounding's error",
        ),
        _column("chance_factor", _MEASURED, "how far chance takes the error of so few values"),
        _column("bound", _MEASURED, "largest rel_l2 (dtype exact) or error_ratio (else) allowed"),
        _column("kl_nats", _MEASURED, "KL(reference ‖ port), nats, mean per token", _NOT_LOGITS),
        _column("top1_agreement", _MEASURED, "share of tokens with the same argmax", _NOT_LOGITS),
        _column("nonfinite", _WHOLE, "values not finite on either side"),
        _column("worst_index", _TEXT, "index of max_abs in the tensor, e.g. 0,7,12"),
        _column("verdict", _LABEL, "pass or fail"),
    ),
    "fingerprints": (
        *(column for column in _AXES if column.name not in _NO_AXES_OF_PRINTS),
        _column("side", _LABEL, "reference, oracle (of rounded weights) or port"),
        _column("cell_id", _LABEL, "the port's cell", _NOT_PORT),
        _column("loading_mode", _LABEL, "how the port was loaded", _NOT_PORT),
        _column("site", _LABEL, "where, in TransformerLens' names without hook_"),
        _column("place", _WHOLE, "the site's place in forward order, from 0"),
        _column("relation", _LABEL, "coordinates: as it is (equal), or centred (shift)"),
        _column("question", _WHOLE, "digest of checkpoint and prompts: only equals compare"),
        _column("digest", _WHOLE, "64 bits over all prompts: equal digests are equal values"),
        _column("norm", _REAL, "norm of the values of all prompts"),
        _column("mean_value", _REAL, "their mean"),
        _column("std_value", _REAL, "their standard deviation"),
        _column("n_values", _WHOLE, "values that count"),
        _column("masked", _WHOLE, "scores that the model itself masks out"),
        _column("nonfinite", _WHOLE, "values that count and are not finite"),
        _column("sketch", pa.list_(_REAL), "CountSketch of 32 buckets", "the side is a port"),
        _column("prompt_norms", pa.list_(_REAL), "norm per prompt", "the side is a port"),
        _column(
            "prompt_projections", pa.list_(_REAL), "sketch of one bucket each", "side is a port"
        ),
        _column("rel_l2", _REAL, "port to reference, largest over prompts", _NOT_PORT),
        _column("reference_error", _REAL, "of the reference to the oracle, typical", _NOT_PORT),
        _column("error_ratio", _REAL, "largest over prompts, ÷ chance_factor", _NOT_PORT),
        _column("failed", pa.bool_(), "port differs from the reference here", _NOT_PORT),
        _column(
            "difference_sketch",
            pa.list_(_MEASURED),
            "CountSketch of port - reference",
            "the port agrees with the reference, or the side is none",
        ),
    ),
    "controls": (
        *(column for column in _AXES if column.name in _AXES_OF_CONTROLS),
        _column("fault", _TEXT, "what was planted, and where", "none could be"),
        _column("expected_site", _TEXT, "site that must be named first", "none could be"),
        _column("first_site", _TEXT, "site that was", "none was: the fault was not seen"),
        _column("caught", pa.bool_(), "the cell turned red; if not, the run proves nothing"),
        _column("words", _TEXT, "what the cell said of itself, or why nothing was planted"),
        _column("seconds", _REAL, "wall time of the cell with the fault, seconds"),
    ),
    "positions": (
        _column("run_id", _LABEL, "the run's folder name"),
        _column("cell_id", _LABEL, "a comparison that is not as it should be"),
        _column("prompt_id", _LABEL, "smallest prompt known to fail, key into prompts"),
        _column("site", _LABEL, "first failing site"),
        _column("row", _WHOLE, "row of the batch, from 0"),
        _column("position", _WHOLE, "position in the row, from 0; of attention, the query's"),
        _column("token", _WHOLE, "token id there", "the site's positions are a decoder's"),
        _column("max_abs", _MEASURED, "largest |port - reference| there, the relation taken out"),
        _column("rel_l2", _MEASURED, "‖port - reference‖ / ‖reference‖ there", "all is zero there"),
    ),
    "prompts": (
        _column("run_id", _LABEL, "folder name of the run that measured it, a shard's if merged"),
        _column("cell_id", _LABEL, "the cell that ran it"),
        _column("prompt_id", _TEXT, "digest of tokens and mask"),
        _column("origin", _TEXT, "bank:<name>, hypothesis, shrunk or text:<name>"),
        _column("fingerprinted", pa.bool_(), "fingerprints cover it"),
        _column("tokens", pa.list_(pa.list_(_WHOLE)), "token ids [batch, pos]"),
        _column("attention_mask", pa.list_(pa.list_(_WHOLE)), "ones where a token is real"),
    ),
}


def schema_of(kind: str) -> pa.Schema:
    """Give the Arrow schema of a kind of row, each column with its documentation."""
    return pa.schema(
        [
            pa.field(
                column.name,
                column.type,
                nullable=bool(column.missing),
                metadata={"doc": column.doc}
                | ({"missing": column.missing} if column.missing else {}),
            )
            for column in COLUMNS[kind]
        ],
        metadata={"schema_version": str(SCHEMA_VERSION), "kind": kind},
    )


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


def write_part(run: Path, kind: Kind, name: str, rows: Sequence[Row]) -> None:
    """Write the rows of one cell as one part; it appears whole or not at all.

    What the columns mean is written once, by `write_columns`: in each of thousands of parts it
    would be a quarter of the run.
    """
    folder = run / kind
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{name}.parquet"
    # Readers of parquet folders pass over names that begin with a dot.
    scratch = folder / f".{name}.{os.getpid()}"
    table = table_of(kind, rows)
    plain = pa.schema([field.remove_metadata() for field in table.schema], table.schema.metadata)
    table = table.cast(plain)
    # A run has thousands of parts: without statistics, which nobody filters one cell's rows by,
    # and with floats split by byte it is a third smaller.
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    others = [field.name for field in table.schema if field.name not in floats]
    pq.write_table(
        table,
        scratch,
        compression="zstd",
        compression_level=9,
        write_statistics=False,
        use_dictionary=[
            name for name in others if not pa.types.is_list(table.schema.field(name).type)
        ],
        use_byte_stream_split=floats,
    )
    scratch.replace(final)


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


def write_json(file: Path, content: object) -> None:
    """Write a JSON file; it appears whole or not at all."""
    write_text(file, json.dumps(content, indent=2, sort_keys=True))


def write_text(file: Path, text: str) -> None:
    """Write a text file, and its folder; it appears whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(file)


def point_latest(run: Path) -> None:
    """Make `latest`, beside the run, point to it."""
    latest = run.parent / "latest"
    scratch = run.parent / f".latest.{os.getpid()}"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(run.name, target_is_directory=True)
    scratch.replace(latest)


def read_run(path: str | Path) -> dict[str, Any]:
    """Read run.json of a run.

    Raises:
        RunFolderError: the folder is not a run, or of another schema version.
    """
    file = Path(path) / "run.json"
    try:
        described = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        message = f"{path} is not a run: {error}; give a folder below reports/runs"
        raise RunFolderError(message) from error
    if not isinstance(described, dict):
        message = f"{path} is not a run: {file.name} is no table; give a folder below reports/runs"
        raise RunFolderError(message)
    if described.get("schema_version") != SCHEMA_VERSION:
        found = described.get("schema_version")
        message = (
            f"{path}: schema_version={found}, but should be {SCHEMA_VERSION}; "
            "read it with the release of the harness that wrote it"
        )
        raise RunFolderError(message)
    return described


def read_versions(path: str | Path) -> dict[str, Version]:
    """Read the versions of the packages that a run was measured with, to be compared as such.

    Raises:
        RunFolderError: the folder is not a run, or of another schema version.
    """
    packages = read_run(path).get("packages", {})
    return {name: Version(version) for name, version in packages.items() if version}


def asked_relation(described: Mapping[str, Any]) -> str:
    """Give the relation that a run's comparisons were forced to; `processing` where none was.

    Args:
        described: What run.json says.
    """
    return str(described.get("plan", {}).get("relation", BY_PROCESSING))


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
