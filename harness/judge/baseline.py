"""Baselines: runs that a person accepted, kept small enough to be committed.

A baseline is a folder: `baseline.json` (who accepted what, when and why, and the environment it
was measured in), `cells.parquet`, `prompts.parquet` and `fingerprints.parquet`. Reference and
oracle are kept once for all modes, with one sketch per site over the prompts; a port that agrees
with its reference has a digest alone, one that does not has the sketch of its distance.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import os
import shutil
import time
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.case import BY_PROCESSING
from harness.errors import RunFolderError, UsageError
from harness.record import (
    SCHEMA_VERSION,
    TEXT_ORIGIN,
    asked_relation,
    check_kinds,
    read_cells,
    read_fingerprints,
    read_prompts,
    read_run,
    read_sealed,
    require,
    write_sealed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DESCRIPTION: Final = "baseline.json"
TABLES: Final = ("cells", "fingerprints", "prompts")

_TRIES: Final = 5
"""How often a baseline is looked at anew that is replaced meanwhile: people accept them, seldom."""
_SWAP_SECONDS: Final = 0.05
"""How long its place may be empty: between two renames, microseconds on a machine at leisure."""

_CELL_COLUMNS: Final = (
    "cell_id",
    "family",
    "variant",
    "checkpoint",
    "port",
    "loading_mode",
    "dtype",
    "device",
    "probe",
    "verdict",
    "reason",
    "failing_checks",
    "first_site",
    "first_prompt_id",
    "sites_compared",
    "n_prompts",
    "checkpoint_digest",
)
_PRINT_COLUMNS: Final = (
    "side",
    "family",
    "variant",
    "checkpoint",
    "dtype",
    "device",
    "cell_id",
    "loading_mode",
    "site",
    "place",
    "relation",
    "question",
    "digest",
    "norm",
    "n_values",
    "masked",
    "nonfinite",
    "sketch",
    "prompt_norms",
    "prompt_projections",
    "rel_l2",
    "reference_error",
    "error_ratio",
    "failed",
    "difference_sketch",
)


_KEPT: Final = (
    *("run_id", "packages", "python", "platform", "cpu", "cpu_capability", "commit", "selection"),
)
"""Of run.json."""
_SAID: Final = ("packages", "run_id", "cells", "sha256")


def is_baseline(path: Path) -> bool:
    """Say whether a folder claims to be a baseline."""
    if not path.is_dir() and any(path.parent.glob(f".{path.name}.*")):
        time.sleep(_SWAP_SECONDS)  # it is being replaced
    return (path / DESCRIPTION).is_file()


def accept(run: Path, into: Path, *, reason: str) -> dict[str, Any]:
    """Make a baseline of a run; give what baseline.json says.

    Raises:
        RunFolderError: the run cannot be read, or has no fingerprints.
        UsageError: no reason is given, the run's relations were forced, or it is a part of one.
    """
    if not reason.strip():
        message = 'a baseline needs a reason; give --reason "what changed and why that is right"'
        raise UsageError(message)
    described = read_run(run)
    refuse_forced(run, described)
    cells = read_cells(run)
    _refuse_part(run, described, len(cells))
    require(run, described, *_KEPT)
    fingerprints = _slim(read_fingerprints(run))
    if fingerprints.empty:
        message = f"{run} has no fingerprints: no cell of it was measured; accept another run"
        raise RunFolderError(message)
    prompts = read_prompts(run)
    texts = prompts[prompts.origin.astype(str).str.startswith(TEXT_ORIGIN)]
    prompts = prompts[prompts.fingerprinted]
    case = ["family", "variant", "checkpoint"]
    # A cell that broke off has the prompts up to there.
    number = cells.cell_id.astype(str).map(prompts.cell_id.astype(str).value_counts())
    whole = cells.loc[number.sort_values(ascending=False, kind="stable").dropna().index]
    prompts = prompts[prompts.cell_id.isin(whole.drop_duplicates(case).cell_id)]
    prompts = pd.concat([prompts, texts])
    scratch = into.with_name(f".{into.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tables = {
        "cells": cells[list(_CELL_COLUMNS)],
        "fingerprints": fingerprints,
        "prompts": prompts[["cell_id", "prompt_id", "origin", "tokens", "attention_mask"]],
    }
    for name, frame in tables.items():
        _write(frame, scratch / f"{name}.parquet")
    content = {
        "schema_version": SCHEMA_VERSION,
        "reason": reason,
        "accepted": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        **{name: described[name] for name in _KEPT},
        "cells": len(cells),
        "sha256": {name: _sha256(scratch / f"{name}.parquet") for name in TABLES},
    }
    write_sealed(scratch / DESCRIPTION, content)
    _take_place(scratch, into)
    return content


def _take_place(new: Path, into: Path) -> None:
    """Put a folder in another's place, which a gate may be reading: it reads again then."""
    old = into.with_name(f".{into.name}.{os.getpid()}.old")
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            into.rename(old)
        shutil.rmtree(old, ignore_errors=True)
        try:
            new.rename(into)
        except OSError as error:  # another one took the place in between, and is replaced in turn
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            return
    message = f"{into} is being accepted by others again and again; accept it once more"
    raise RunFolderError(message)


def refuse_forced(run: Path, described: Mapping[str, Any]) -> None:
    """Refuse a run that was judged in another sense than every other run is.

    Raises:
        UsageError: its relations were forced.
    """
    if (relation := asked_relation(described)) != BY_PROCESSING:
        message = (
            f"{run}: its relations were forced (--relation {relation}), so that it shows what "
            "processing does and is no measure for another run; measure again without --relation"
        )
        raise UsageError(message)


def _refuse_part(run: Path, described: Mapping[str, Any], cells: int) -> None:
    """Refuse a part of a run: what is not there is gated by nobody.

    Raises:
        UsageError: it is a shard, a merge that lacks cells, not finished, or was asked by -k.
    """
    asked = described.get("asked", {})
    if cells < asked.get("cells", 0) and "shard" not in described:
        message = (
            f"{run} has {cells} of the {asked['cells']} cells that it was asked for\n"
            f"  next:    harness run --resume {run}, and accept it then"
        )
        raise UsageError(message)
    if "keyword" in asked:
        message = (
            f"{run} was asked by -k {asked['keyword']}, which leaves out cells of its selection\n"
            "  next:    run it by --family, --mode and the like, and accept that"
        )
        raise UsageError(message)
    of = (described.get("shard") or described.get("merged") or {}).get("of", cells)
    if "shard" in described or cells < of:
        message = (
            f"{run} has {cells} of the {of} cells that its shards were asked together\n"
            "  next:    harness merge all of them, and accept that"
        )
        raise UsageError(message)


def read_baseline(
    path: Path,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read baseline.json, cells, fingerprints and prompts: all of one, if it is replaced meanwhile.

    Raises:
        RunFolderError: a file is missing, truncated or was changed, or the schema is another.
    """
    for _ in range(_TRIES):
        before = _stamp(path)
        try:
            return _read_once(path)
        except RunFolderError:
            if before is not None and _stamp(path) == before:
                raise
            time.sleep(_SWAP_SECONDS)
    return _read_once(path)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Give what another baseline in this place has another of; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _read_once(
    path: Path,
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    again = "accept it again from its run: harness baseline accept RUN"
    try:
        described = read_sealed(path / DESCRIPTION)
    except (OSError, ValueError) as error:
        message = f"{path / DESCRIPTION} cannot be read ({error}); {again}"
        raise RunFolderError(message) from error
    if (found := described.get("schema_version")) != SCHEMA_VERSION:
        message = (
            f"{path}: baseline of schema {found}, but should be {SCHEMA_VERSION}; another "
            f"question is never compared with this one's answer: {again}"
        )
        raise RunFolderError(message)
    check_kinds(path / DESCRIPTION, described, then=again)
    require(path / DESCRIPTION, described, *_SAID, then=again)
    frames = []
    for name in TABLES:
        file = path / f"{name}.parquet"
        try:
            if _sha256(file) != described["sha256"][name]:
                message = f"{file} is not the one that was accepted (truncated?); {again}"
                raise RunFolderError(message)
            frames.append(pq.read_table(file).to_pandas())
        except (OSError, KeyError, TypeError, pa.ArrowException) as error:
            message = f"{file} cannot be read ({error}); {again}"
            raise RunFolderError(message) from error
    cells, fingerprints, prompts = frames
    return described, cells, fingerprints, prompts


def _slim(fingerprints: pd.DataFrame) -> pd.DataFrame:
    """Keep what a gate needs: oracles whole, references and agreeing ports as digests."""
    frame = fingerprints[list(_PRINT_COLUMNS)].copy()
    rounded = (frame.side == "reference") & (frame.dtype != "exact")
    for name in ("sketch", "prompt_norms", "prompt_projections"):
        frame.loc[rounded, name] = None
    frame.loc[~frame.failed.eq(True), "difference_sketch"] = None
    order = ["side", "family", "variant", "checkpoint", "dtype", "cell_id", "place"]
    return frame.sort_values(order, kind="stable")


def _write(frame: pd.DataFrame, file: Path) -> None:
    narrow = {"norm", "rel_l2", "reference_error", "error_ratio"}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    lists = {"sketch": pa.float64(), "difference_sketch": pa.float32()}
    lists |= {"prompt_norms": pa.float32(), "prompt_projections": pa.float64()}
    for place, name in enumerate(table.column_names):
        kind = table.schema.field(name).type
        wanted = kind
        if name in narrow:
            wanted = pa.float32()
        elif name in lists:
            wanted = pa.list_(lists[name])
        elif name in {"place", "n_values", "masked", "nonfinite"}:
            wanted = pa.int32()
        table = table.set_column(place, name, table.column(name).cast(wanted))
    pq.write_table(table, file, compression="zstd", compression_level=19)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
