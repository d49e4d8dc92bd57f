"""Who reads stored things: each reader gives what it read as plain values that compare."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pandas as pd

import harness
from harness import record
from harness.case import Case
from harness.history.finding import find_steps, series_of
from harness.history.reading import history_of
from harness.judge.baseline import accept
from harness.judge.controls import uncaught
from harness.judge.explain import explain_stored
from harness.judge.gate import gate
from harness.judge.sides import read_side
from harness.measure.question import Question
from harness.merging import merge
from harness.models.checkpoints import checkpoint_of
from harness.models.checkpoints.folder import open_folder
from harness.page.writing import data_of
from harness.report import annotations, gates, run_junit, summary
from harness.report.explained import explained
from harness.report.words import print_run
from harness.versions import environments, measuring
from harness.versions.resolving import Lock, pins_in

Reader = Callable[[Path], Any]


class Noticed(Exception):  # noqa: N818 - it is no error
    """What is changed was noticed, though nothing was refused: says how it shows."""


def plain(value: Any) -> Any:
    """Give a value without arrays, which compare entry by entry; NaN as a word."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return "NaN" if value is pd.NA or value != value else value  # noqa: PLR0124 - NaN is not itself


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """Give a frame's columns and rows as plain values."""
    rows = frame.astype(object).itertuples(index=False, name=None)
    return [list(map(str, frame.columns)), *(plain(row) for row in rows)]


FRAMES: Final = {
    "cells": harness.read_cells,
    "deltas": harness.read_deltas,
    "prompts": harness.read_prompts,
    "controls": harness.read_controls,
    "positions": harness.read_positions,
    "fingerprints": record.read_fingerprints,
}


def frames_of(run: Path) -> dict[str, Any]:
    """Give all rows of a run, in any order."""
    return {kind: sorted(map(repr, rows_of(read(run)))) for kind, read in FRAMES.items()}


def _shown(run: Path) -> list[str]:
    lines: list[str] = []
    print_run(run, write=lines.append, messages=True)
    return lines + uncaught(record.read_cells(run), record.read_controls(run))


def _packed(run: Path) -> Any:
    record.pack(run)
    return frames_of(run)


def _accepted(run: Path) -> Any:
    into = run.with_name("accepted")
    shutil.rmtree(into, ignore_errors=True)
    described = accept(run, into, reason="a test")
    return [{**described, "accepted": "", "sha256": ""}, side_of(into)]


def _explained(run: Path) -> Any:
    cells = sorted(record.finished_cells(run))
    return [list(explained(explain_stored(run, cell, name="a-run"))) for cell in cells]


def side_of(folder: Path) -> Any:
    """Give what a side knows, without the folder's name."""
    side = read_side(folder, name="side")
    known = (side.packages, side.cells, side.references, side.ports, side.prompts)
    return repr([*known, side.smallest, side.texts])


def gated(other: Path) -> Reader:
    """Give a reader that gates a folder against another, which nobody touches and is the old."""

    def read(folder: Path) -> Any:
        old, new = read_side(other, name="old"), read_side(folder, name="new")
        return gates.as_json(gate(old, new, [*old.cells, *(set(new.cells) - set(old.cells))]))

    return read


def of_run(other: Path) -> dict[str, Reader]:
    """Give the readers of a run's folder."""
    frames = {f"read_{kind}": _rows_by(read) for kind, read in FRAMES.items()}
    few = {"columns": ["site", "rel_l2"], "dtype": "exact"}
    return {
        **frames,
        "read_deltas, filtered": lambda run: rows_of(harness.read_deltas(run, **few)),
        "read_run": harness.read_run,
        "read_versions": lambda run: repr(harness.read_versions(run)),
        "resume": lambda run: sorted(record.finished_cells(run)),
        "show": _shown,
        "explain": _explained,
        "report": lambda run: [summary.run_markdown(run), run_junit.junit(run)],
        "annotations": lambda run: list(annotations.of_run(run)),
        "page": lambda run: repr(data_of(run)),
        "pack": _packed,
        "accept": _accepted,
        "side": side_of,
        "gate": gated(other),
    }


def _rows_by(read: Callable[[Path], pd.DataFrame]) -> Reader:
    return lambda run: rows_of(read(run))


def of_parts(readers: dict[str, Reader]) -> dict[str, Reader]:
    """Let readers of a run in parts notice what shows by itself.

    A cell whose own part is gone is one that has not finished, and is measured again by --resume;
    what has no control is told at the run's end.
    """

    def noticing(read: Reader) -> Reader:
        def noticed(run: Path) -> Any:
            if len(list(run.glob("cells/*.parquet"))) < 2:
                raise Noticed("a cell counts as not finished")
            if not list(run.glob("controls/*.parquet")):
                if not any("NO CONTROL" in line for line in _shown(run)):
                    return read(run)
                raise Noticed("NO CONTROL is told")
            return read(run)

        return noticed

    return {name: noticing(read) for name, read in readers.items()}


def of_packed(readers: dict[str, Reader]) -> dict[str, Reader]:
    """Let those that ask which cells have finished notice that none has.

    So they are measured again by --resume, whose rows take the place of the packed ones.
    """

    def noticing(read: Reader) -> Reader:
        def noticed(run: Path) -> Any:
            if not (run / "cells" / record.PACKED).is_file() and not record.finished_cells(run):
                raise Noticed("no cell counts as finished")
            return read(run)

        return noticed

    return readers | {name: noticing(readers[name]) for name in ("resume", "explain")}


def merged(folder: Path) -> Any:
    """Merge the shards in a folder, and give all rows."""
    into = folder.with_name("merged")
    shutil.rmtree(into, ignore_errors=True)
    described = merge(sorted(folder.glob("s*")), into, partial=False)
    return [described, frames_of(into)]


def of_history(folder: Path) -> Any:
    """Give the rows of a history, and its steps."""
    found = history_of(folder)
    frame = harness.read_history(folder, history=found)
    if found.left_out:
        raise Noticed(f"left out: {found.left_out}")
    steps = find_steps(series_of(frame, len(found.nights)), found.nights)
    of_family = harness.read_history(folder, family="gpt2", history=found)
    return [rows_of(frame), rows_of(of_family), repr(steps.to_dict("records"))]


OF_GATE: Final[dict[str, Reader]] = {
    "read_gate": lambda folder: [rows_of(frame := harness.read_gate(folder)), repr(frame.attrs)],
    "report": summary.gate_markdown,
    "annotations": lambda folder: list(annotations.of_gate(folder)),
    "page": lambda folder: repr(data_of(folder)),
}


def cached_checkpoint(cache: Path) -> Any:
    """Open the checkpoint that a cache has, as a measuring of gpt2 does."""
    with mock.patch.dict(os.environ, {"HARNESS_CACHE": str(cache)}):
        found = checkpoint_of(Case(family="gpt2"))
        return [found.digest, found.config]


def folder_checkpoint(digest: str) -> Reader:
    """Give a reader of a user's own folder, whose digest shows what has changed."""

    def read(folder: Path) -> Any:
        found = open_folder(folder)
        if (config := found.config) and found.digest != digest:
            raise Noticed("checkpoint_digest is another")
        return [found.digest, config]

    return read


def question(folder: Path) -> Any:
    """Read a question."""
    return repr(Question.read(folder / "question.json"))


def of_environments(lock: Lock) -> dict[str, Reader]:
    """Give the readers of a cache of environments."""

    def anew(*_: Any, **__: Any) -> None:
        raise Noticed("it is built or asked anew")

    def listed(cache: Path) -> Any:
        with mock.patch.dict(os.environ, {"HARNESS_CACHE": str(cache)}):
            found = environments.environments()
        if not found:
            raise Noticed("it is not there any more")
        return [(each.key, each.requirements, each.lock, each.python_version) for each in found]

    def used(cache: Path) -> Any:
        with (
            mock.patch.dict(os.environ, {"HARNESS_CACHE": str(cache)}),
            mock.patch.object(environments, "_build", anew),
        ):
            found = environments.environment_for(lock)
            return [found.key, found.requirements, found.lock, found.python_version]

    def failures(cache: Path) -> Any:
        with (
            mock.patch.dict(os.environ, {"HARNESS_CACHE": str(cache)}),
            mock.patch.object(measuring, "run_in", anew),
        ):
            (found,) = environments.environments() or [anew()]
            return measuring.import_failures(measuring.Subject(spec="port", environment=found))

    return {"env list": listed, "used again": used, "imports": failures}


def pins(folder: Path) -> Any:
    """Read a file of pins."""
    return repr(pins_in(folder / "pins.csv"))
