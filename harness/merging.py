"""Shards become one run: their parts are packed together, what does not fit is refused by name.

A run of shards is one run only if each was asked the same, of the same releases, at the same
commit, and none is missing. Machines may differ, as between nights: the merged run lists them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.errors import RunFolderError, UsageError
from harness.record import (
    KINDS,
    Kind,
    Portion,
    finished_cells,
    portions_of,
    read_run,
    write_columns,
    write_run,
    write_sealed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_ALIKE: Final = ("selection", "plan", "commit", "python", "packages")
"""Of run.json: what is asked, and what is measured with. All shards of a run have the same."""
_WHOLE: Final = ("count", "of", "whole")
"""Of a shard: what says of which whole it is."""
MACHINE: Final = ("platform", "cpu", "cpu_capability", "cores", "torch_threads", "devices")
"""Told of each shard, and not held: rented machines are not of one kind."""
_OF_THE_CLOCK: Final = ("run_id", "seconds", "peak_rss_mb")
"""Columns that differ between two measurements of one cell that are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A shard to be merged: its folder, its run.json, and the cells that it has finished."""

    run: Path
    described: Mapping[str, Any]
    cells: frozenset[str]

    @property
    def shard(self) -> Mapping[str, Any]:
        """Give what it says of itself as a part."""
        found: Mapping[str, Any] = self.described["shard"]
        return found

    def __str__(self) -> str:
        """Print as `nightly-2, shard 2/4`."""
        return f"{self.run.name}, shard {self.shard['index']}/{self.shard['count']}"


def merge(runs: Sequence[Path], into: Path, *, partial: bool) -> dict[str, Any]:
    """Make one run of the shards of one; give its run.json.

    Raises:
        RunFolderError: one is no run or no shard, they are not of one run, or two measured one
            cell and differ; or `into` is there already.
        UsageError: a shard, or a cell of one, is missing, and `partial` does not allow for it.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        message = f"{into} is there already; give another --out, or remove it"
        raise RunFolderError(message)
    pieces = [_piece(run) for run in runs]
    for piece in pieces[1:]:
        _check_alike(pieces[0], piece)
    lacking = _lacking(pieces)
    if lacking and not partial:
        message = (
            f"not the whole run: {'; '.join(lacking)}\n"
            "  next:    give all shards, or --partial for a run that says of itself that it is none"
        )
        raise UsageError(message)
    scratch = into.with_name(f".{into.name}.merging")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        write_run(scratch, {kind: _joined_parts(pieces, kind) for kind in KINDS})
        described = _described(pieces, into.name)
        write_columns(scratch)
        write_sealed(scratch / "run.json", described)
        shutil.rmtree(into, ignore_errors=True)  # an empty folder, by the check above
        scratch.rename(into)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return described


def _piece(run: Path) -> Piece:
    described = read_run(run)
    if "shard" not in described:
        message = (
            f"{run} is no shard: it was run without --shard, or merged already\n"
            "  next:    merge the folders of harness run --shard 1/n … n/n"
        )
        raise RunFolderError(message)
    return Piece(run=run, described=described, cells=finished_cells(run))


def _check_alike(first: Piece, other: Piece) -> None:
    """Refuse a shard that is not of the same run as the first, by what differs."""
    pairs = [(f"shard.{name}", first.shard.get(name), other.shard.get(name)) for name in _WHOLE]
    pairs += [(name, first.described.get(name), other.described.get(name)) for name in _ALIKE]
    for name, one, two in pairs:
        if one != two:
            told = difference(name, one, two)
            message = (
                f"{other} is not of the same run as {first}\n"
                f"  found:   {told}\n"
                "  allowed: shards of one question, one commit and one set of releases\n"
                "  next:    measure it again as the others were"
            )
            raise RunFolderError(message)


def difference(name: str, one: object, two: object) -> str:
    """Say what differs; of a table the first entry that does."""
    if isinstance(one, dict) and isinstance(two, dict):
        key = next(key for key in sorted({*one, *two}) if one.get(key) != two.get(key))
        return f"{name}.{key} is {two.get(key)!r}, not {one.get(key)!r}"
    return f"{name} is {two!r}, not {one!r}"


def _lacking(pieces: Sequence[Piece]) -> list[str]:
    """Say which shards are missing, and which have not finished all their cells."""
    count = pieces[0].shard["count"]
    of_shard = {
        index: frozenset().union(*(p.cells for p in pieces if p.shard["index"] == index))
        for index in range(1, count + 1)
    }
    asked = {piece.shard["index"]: piece.shard["cells"] for piece in pieces}
    told = []
    for index, cells in of_shard.items():
        if index not in asked:
            told.append(f"shard {index}/{count} is missing")
        elif len(cells) != asked[index]:
            told.append(f"shard {index}/{count} has {len(cells)} of {asked[index]} cells")
    return told


def _joined_parts(pieces: Sequence[Piece], kind: Kind) -> list[Portion]:
    """Give the parts of all shards, each once; of one that two have see that it is the same.

    What a cell has written that did not finish is left out: another shard may have finished it.
    """
    chosen: dict[str, tuple[Portion, Piece]] = {}
    for piece in pieces:
        for part in portions_of(piece.run, kind):
            if part.of_cell and part.name not in piece.cells:
                continue
            if part.name not in chosen:
                chosen[part.name] = (part, piece)
            elif kind == "controls":
                if not all(part.read()["caught"].to_pylist()):  # of two, the one not caught stays
                    chosen[part.name] = (part, piece)
            elif _rows(part) != _rows(chosen[part.name][0]):
                message = (
                    f"{part.name} was measured twice, and its {kind} differ: "
                    f"{chosen[part.name][1]}, {piece}\n"
                    "  next:    leave one of them out, after asking why: harness replay RUN CELL"
                )
                raise RunFolderError(message)
    return [part for part, _ in chosen.values()]


def _rows(part: Portion) -> str:
    """Give the rows of a part as words, NaN like NaN, without what the clock made."""
    table = part.read()
    kept = [name for name in table.column_names if name not in _OF_THE_CLOCK]
    return repr(table.select(kept).to_pylist())


def _described(pieces: Sequence[Piece], name: str) -> dict[str, Any]:
    """Give run.json of the merged run: what all have in common, and each shard's machine."""
    first = pieces[0].described
    merged = {
        "count": pieces[0].shard["count"],
        "of": pieces[0].shard["of"],
        "missing": _lacking(pieces),
        "shards": [
            {
                "run_id": piece.run.name,
                "index": piece.shard["index"],
                "cells": len(piece.cells),
                "started": piece.described.get("started"),
                **{key: piece.described.get(key) for key in MACHINE},
            }
            for piece in sorted(pieces, key=lambda piece: piece.shard["index"])
        ],
    }
    common = {key: value for key, value in first.items() if key not in {"shard", "asked"}}
    common |= {key: _joined(pieces, key) for key in MACHINE if key in first}
    return {
        **common,
        "run_id": name,
        "started": min(str(piece.described.get("started")) for piece in pieces),
        "merged": merged,
    }


def _joined(pieces: Sequence[Piece], key: str) -> Any:  # noqa: ANN401 - what run.json holds
    """Give the value that all shards have; else all of them, as words."""
    values = [piece.described.get(key) for piece in pieces]
    if all(value == values[0] for value in values):
        return values[0]
    return " | ".join(sorted({str(value) for value in values}))
