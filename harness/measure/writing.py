"""Writes a run: its provenance once, each cell's rows as it finishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.provenance import gather
from harness.record import (
    SCHEMA_VERSION,
    Kind,
    has_part,
    point_latest,
    write_columns,
    write_part,
    write_sealed,
)
from harness.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.measure.run import CellResult


def open_run(
    run: Path,
    *,
    selection: Mapping[str, Sequence[str]],
    plan: Mapping[str, Any],
    part: Mapping[str, Any] | None = None,
    asked: Mapping[str, Any] | None = None,
) -> None:
    """Make the run's folder and run.json, and point `latest` to it; the first worker does it.

    Where `part` is given the run is a shard, and says of what whole. `asked` is how many
    `cells` are to be measured, and pytest's -k, the `keyword`, if that leaves cells out.

    Each process that opens it computes with one thread from then on.
    """
    one_thread()
    run.mkdir(parents=True, exist_ok=True)
    with FileLock(run / ".lock"):
        if (run / "run.json").exists():
            return
        described = {
            "schema_version": SCHEMA_VERSION,
            "run_id": run.name,
            "selection": {axis: list(values) for axis, values in selection.items()},
            "plan": dict(plan),
            **({} if asked is None else {"asked": dict(asked)}),
            **({} if part is None else {"shard": dict(part)}),
            **gather(),
        }
        write_columns(run)
        write_sealed(run / "run.json", described)
        point_latest(run)


def write_result(run: Path, result: CellResult) -> None:
    """Write a cell's rows; its own row comes last and says that the others are whole."""
    name = result.cell.id
    beside = []
    kinds: dict[Kind, Sequence[Mapping[str, Any]]] = {
        "deltas": result.deltas,
        "prompts": result.prompts,
        "positions": result.positions,
    }
    for kind, rows in kinds.items():
        if rows:
            write_part(run, kind, name, rows)
            beside.append(f"{kind}/{name}")
    for part, rows in result.fingerprints.items():
        if not rows:
            continue
        # The cells of one case share those of their reference, and the first writes them.
        if part == name or not has_part(run, "fingerprints", part):
            write_part(run, "fingerprints", part, rows)
        beside.append(f"fingerprints/{part}")
    write_part(run, "cells", name, [result.row], beside=beside)
