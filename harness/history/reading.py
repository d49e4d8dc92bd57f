"""Reads the runs of a folder as one table: a row per run and cell, in the order of the runs."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from packaging.version import InvalidVersion, Version

from harness.case import EXACT
from harness.errors import RunFolderError
from harness.history.summaries import FILE, LABELS, summary_of
from harness.record import asked_relation, read_run
from harness.record.sealing import check_indices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

PACKAGES: Final = {
    "torch": "torch",
    "transformers": "transformers",
    "transformer_lens": "transformer-lens",
}
"""Columns of versions, and the packages that they are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """A run of a history: its folder, when it began, with what, and what it was asked."""

    path: Path
    run_id: str
    started: dt.datetime
    packages: Mapping[str, str]
    commit: str
    asked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The runs of one question, in time, and why others of the folder are left out."""

    nights: tuple[Night, ...]
    left_out: Mapping[str, str]


def history_of(folder: str | Path) -> History:
    """Find the runs of a folder that were asked what its newest run was asked.

    Others are never mixed with them: runs of another schema version, of another selection, with
    forced relations, without a finished cell, or in part are left out, each with its reason.

    Raises:
        RunFolderError: the folder has no run that can be read.
    """
    nights: list[Night] = []
    left_out: dict[str, str] = {}
    for path in sorted(Path(folder).glob("*/")):
        is_run = (path / "run.json").is_file() or (path / "cells").is_dir()  # one may have lost it
        if path.is_symlink() or not is_run:  # `latest` is one of the others
            continue
        try:
            nights.append(_night(path))
        except RunFolderError as reason:
            left_out[path.name] = str(reason)
    nights.sort(key=lambda night: (night.started, night.run_id))
    if not nights:
        told = "".join(f"\n  {name}: {reason}" for name, reason in left_out.items())
        message = f"{folder} has no run that can be read; next: harness run{told}"
        raise RunFolderError(message)
    newest = nights[-1].asked
    left_out |= {
        night.run_id: "it was asked for something else than the newest run"
        for night in nights
        if night.asked != newest
    }
    same = tuple(night for night in nights if night.asked == newest)
    return History(nights=same, left_out=left_out)


def _night(path: Path) -> Night:
    described = read_run(path)
    if "shard" in described or described.get("merged", {}).get("missing"):
        message = f"{path} is a part of a run, whose other cells are elsewhere; next: harness merge"
        raise RunFolderError(message)
    summary_of(path)
    packages = described.get("packages", {})
    asked = {"selection": described.get("selection"), "relation": asked_relation(described)}
    try:
        started = dt.datetime.fromisoformat(described["started"])
    except (KeyError, ValueError, TypeError) as error:
        message = f"{path}: run.json does not say when it began ({error})"
        raise RunFolderError(message) from error
    return Night(
        path=path,
        run_id=path.name,
        started=started,
        packages={name: version for name, version in packages.items() if version},
        commit=str(described.get("commit")),
        asked=json.dumps(asked, sort_keys=True),
    )


def read_history(
    folder: str | Path, *, family: str | None = None, history: History | None = None
) -> pd.DataFrame:
    """Read the runs of a folder, one row per run and cell.

    `run_id` and `started` (UTC) say which run, `place` its place in time from 0; names, axes,
    `verdict` and `first_site` are categories; `value` is what is judged, the largest over a cell's
    deltas: rel_l2 in exact mode, else error_ratio ÷ chance_factor; `torch`, `transformers` and
    `transformer_lens` are categories in the order of the versions; `segment` counts from 0 where a
    cell's checkpoint became another one: values of different segments are not comparable. `attrs`
    hold `left_out`: runs that are not in it, and why.

    Args:
        folder: A folder of runs, such as reports/runs.
        family: The family to be read; all if it is None.
        history: The runs, if they were found before.

    Raises:
        RunFolderError: the folder has no run that can be read, or none with that family.
    """
    history = history or history_of(folder)
    files = [str(night.path / FILE) for night in history.nights]
    tables = list(_tables(files, family))
    if not tables:
        message = f"no run of {folder} has a cell of {family}; next: harness history {folder}"
        raise RunFolderError(message)
    frame = pa.concat_tables(tables).unify_dictionaries().to_pandas(categories=["family"])
    exact = (frame["dtype"] == EXACT).to_numpy()
    frame["value"] = np.where(exact, frame.worst_rel_l2, frame.worst_error_ratio)
    return _dated(frame.drop(columns=["worst_rel_l2", "worst_error_ratio"]), history)


_READ_ONCE: Final = [name for name in LABELS if name != "family"]
"""Columns read as dictionaries: a year has millions of rows and thousands of names.

By plain families whole groups of rows are passed over.
"""


def _tables(files: Sequence[str], family: str | None) -> Iterator[pa.Table]:
    """Read the rows of a family file by file; a dataset of them costs a quarter more."""
    for place, file in enumerate(files):
        table = _rows_of(file, family)
        if family is not None:
            table = table.filter(pc.equal(table["family"], family))
        if table.num_rows:
            column = pa.array([place] * table.num_rows, pa.int32())
            yield table.append_column("place", column)


def _rows_of(file: str, family: str | None) -> pa.Table:
    """Read the groups of a summary that may have a family.

    Raises:
        RunFolderError: it is damaged.
    """
    try:
        summary = pq.ParquetFile(file, read_dictionary=_READ_ONCE, page_checksum_verification=True)
        groups = _groups_with(summary, family)
        table = summary.read_row_groups(groups, use_threads=False)
        check_indices(table)
        rows = sum(summary.metadata.row_group(group).num_rows for group in groups)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunFolderError(_unreadable(file, error)) from error
    if table.num_rows != rows:  # a page's header that is damaged hides rows
        raise RunFolderError(_unreadable(file, f"{table.num_rows} rows instead of {rows}"))
    return table


def _unreadable(file: str, why: object) -> str:
    return f"{file} cannot be read ({why}); next: delete it, it is made again of the run's cells"


def _groups_with(summary: pq.ParquetFile, family: str | None) -> list[int]:
    """Number the groups of rows that may have a family; all if it is None."""
    groups = range(summary.metadata.num_row_groups)
    if family is None:
        return list(groups)
    column = summary.schema_arrow.get_field_index("family")
    spans = {at: summary.metadata.row_group(at).column(column).statistics for at in groups}
    return [
        at
        for at, span in spans.items()
        if span is None or not span.has_min_max or span.min <= family <= span.max
    ]


def _dated(frame: pd.DataFrame, history: History) -> pd.DataFrame:
    nights = history.nights
    place: NDArray[np.int64] = frame.place.to_numpy(np.int64)
    frame["run_id"] = _category(place, [night.run_id for night in nights])
    started = pd.to_datetime([night.started for night in nights], utc=True)
    frame["started"] = started[place]
    for column, package in PACKAGES.items():
        versions = [night.packages.get(package, "") for night in nights]
        names = sorted(set(versions), key=_version)
        codes: NDArray[np.int64] = np.array([names.index(version) for version in versions])
        frame[column] = _category(codes[place], names, ordered=True)
    # A cell that did not run has no digest, and says nothing of its checkpoint.
    cells = frame.cell_id.cat.codes
    known = frame.checkpoint_digest.cat.codes.astype(float).where(lambda code: code >= 0)
    digests = known.groupby(cells, sort=False).ffill()
    before = digests.groupby(cells, sort=False).shift()
    changed = before.notna() & digests.ne(before)
    frame["segment"] = changed.groupby(cells, sort=False).cumsum().astype(int)
    frame.attrs["left_out"] = dict(history.left_out)
    return frame


def _category(
    codes: NDArray[np.int64], names: list[str], *, ordered: bool = False
) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(codes, pd.Index(names), ordered=ordered)


def _version(text: str) -> tuple[bool, Any]:
    try:
        return (True, Version(text))
    except InvalidVersion:
        return (False, Version("0"))
