"""Stored things, small and real: made once by the harness, for their copies to be changed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import mock

import torch

from harness import record
from harness.case import Case
from harness.history.reading import read_history
from harness.judge.baseline import accept
from harness.judge.gate import gate
from harness.judge.sides import read_side
from harness.measure.question import Question
from harness.models.checkpoints import checkpoint_of
from harness.report.gates import write_gate
from harness.versions import environments, resolving
from harness.versions.interpreters import find_interpreter
from harness.versions.resolving import Lock
from tests.fuzz import readers
from tests.fuzz.readers import Reader
from tests.hand_rows import plain_row
from tests.judge import planting

CELLS: Final = planting.SDPA
DAYS: Final = ("2026-01-01", "2026-01-02", "2026-01-03")
LOCK: Final = Lock(
    text="base==1.0\nport==1.0\n", requirements=("port",), python=platform.python_version()
)
PROMPTS: Final = planting.PROMPTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A folder, the files in it that are changed, and who reads it.

    A thing `by_hand` is one that users edit: what it says is theirs, and only words are asked for.
    """

    name: str
    folder: Path
    files: Sequence[str]
    readers: Mapping[str, Reader]
    by_hand: bool = False

    def files_of(self, reader: str) -> list[str]:
        """Give the files that concern a reader: one of rows of a kind reads no other kind."""
        kind = reader.removeprefix("read_").partition(",")[0]
        if kind not in readers.FRAMES:
            return list(self.files)
        return [file for file in self.files if Path(file).parts[0] in {kind, "cells", "run.json"}]


def things(root: Path) -> list[Thing]:
    """Make all things below a folder."""
    clean, moved = root / "clean", root / "moved"
    planting.record(clean, CELLS)
    planting.record(moved, CELLS, port=planting.scaled(1e-3, dtype=torch.float64))
    _control(moved)
    packed, baseline = shutil.copytree(moved, root / "packed"), root / "baseline"
    record.pack(packed)
    accept(clean, baseline, reason="the first one")
    gate_folder = root / "gate"
    sides = read_side(baseline), read_side(packed)
    write_gate(gate(*sides, [cell.id for cell in CELLS]), gate_folder)
    of_run = readers.of_run(baseline)
    return [
        _thing(moved, "a run in parts", readers.of_parts(of_run)),
        _thing(packed, "a packed run", readers.of_packed(of_run)),
        _thing(
            baseline,
            "a baseline",
            {"side": readers.side_of, "gate": readers.gated(packed)},
        ),
        _thing(gate_folder, "a gate", readers.OF_GATE, only=("gate.json",)),
        _thing(_shards(root / "shards"), "shards", {"merge": readers.merged}),
        _thing(
            _history(root / "history", packed),
            "a history",
            {"history": readers.of_history},
            only=("run.json", "summary.parquet"),
        ),
        *_checkpoints(root),
        _question(root / "question"),
        _environment(root / "environments"),
        _pins(root / "pins"),
    ]


def _thing(
    folder: Path, name: str, asked: Mapping[str, Reader], *, only: Sequence[str] = ()
) -> Thing:
    there = sorted(file for file in folder.rglob("*") if file.is_file())
    files = [
        str(file.relative_to(folder))
        for file in there
        if file.suffix in {".json", ".parquet"} and file.name != "columns.json"
    ]
    chosen = [file for file in files if not only or Path(file).name in only]
    return Thing(name=name, folder=folder, files=chosen, readers=asked)


def _control(run: Path) -> None:
    """Add the control that a run of the plugin has."""
    row = plain_row("controls", run_id=run.name, cell_id=CELLS[0].id, family="gpt2")
    row |= {"port": CELLS[0].mode.port, "loading_mode": "hf_sdpa", "dtype": "exact"}
    record.write_part(run, "controls", CELLS[0].id, [row])


def _shards(folder: Path) -> Path:
    for index, cell in enumerate(CELLS, start=1):
        run = planting.record(folder / f"s{index}", (cell,))
        described = record.read_run(run)
        part = {"index": index, "count": len(CELLS), "cells": 1, "of": len(CELLS), "whole": "d"}
        record.write_sealed(run / "run.json", {**described, "shard": part})
    record.pack(folder / "s1")
    return folder


def _history(folder: Path, run: Path) -> Path:
    for day in DAYS:
        night = shutil.copytree(run, folder / day)
        described = record.read_run(night)
        started = f"{day}T03:17:00+00:00"
        record.write_sealed(night / "run.json", {**described, "started": started})
    read_history(folder)  # which makes the summaries
    return folder


def _checkpoints(root: Path) -> list[Thing]:
    cache = root / "checkpoints"
    with mock.patch.dict(os.environ, {"HARNESS_CACHE": str(cache)}):
        made = checkpoint_of(Case(family="gpt2"))
    folder = shutil.copytree(made.path, root / "folder")
    names = {"weight_map": {"transformer.wte.weight": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(names))
    inside = [str(file.relative_to(cache)) for file in made.path.iterdir()]
    return [
        Thing(
            name="a cached checkpoint",
            folder=cache,
            files=inside,
            readers={"measure": readers.cached_checkpoint},
        ),
        Thing(
            name="a checkpoint folder",
            folder=folder,
            files=["config.json", "model.safetensors", "model.safetensors.index.json"],
            readers={"measure": readers.folder_checkpoint(made.digest)},
        ),
    ]


def _question(folder: Path) -> Thing:
    case = CELLS[0].case
    asked = Question(
        cells=CELLS, checkpoints={case.id: checkpoint_of(case)}, prompts={case.id: PROMPTS}
    )
    asked.write(folder / "question.json")
    return _thing(folder, "a question", {"worker": readers.question})


def _environment(cache: Path) -> Thing:
    """Make an environment as the builder does, with packages that nobody installs."""

    def install(_: Sequence[str], folder: Path) -> None:
        packages = folder / "lib" / "python3" / "site-packages"
        for name in ("base", "port"):
            metadata = packages / f"{name}-1.0.dist-info" / "METADATA"
            metadata.parent.mkdir(parents=True, exist_ok=True)
            metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "bin").mkdir(exist_ok=True)
        python = folder / "bin" / "python"
        python.unlink(missing_ok=True)
        python.symlink_to(sys.executable)

    with (
        mock.patch.dict(os.environ, {"HARNESS_CACHE": str(cache)}),
        mock.patch.object(environments, "_uv", install),
    ):
        made = environments.environment_for(LOCK)
    assert made.key == environments.key_of(LOCK.text, find_interpreter(None))
    record.write_sealed(made.path / "imports.json", {"port": "ImportError: no base"})
    files = ["environment.json", "imports.json", "lib/python3/site-packages/port-1.0.dist-info"]
    files[-1] += "/METADATA"
    return Thing(
        name="an environment",
        folder=cache,
        files=[str((made.path / file).relative_to(cache)) for file in files],
        readers=readers.of_environments(LOCK),
    )


def _pins(folder: Path) -> Thing:
    folder.mkdir()
    shutil.copyfile(Path(resolving.__file__).with_name("pins.csv"), folder / "pins.csv")
    asked = {"pins": readers.pins}
    return Thing(name="pins", folder=folder, files=["pins.csv"], readers=asked, by_hand=True)
