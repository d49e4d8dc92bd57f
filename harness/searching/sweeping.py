"""Sweep: a grid of version sets × cases, each set measured in its own environment."""

from __future__ import annotations

import csv
import dataclasses
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

import harness.versions
from harness.case import EXACT, mode_named
from harness.errors import EnvironmentUnavailable, RequirementError, UsageError
from harness.gating import PORT, modes_for, question_for
from harness.record import COLUMNS as RECORDED
from harness.record import read_cells
from harness.searching.probing import first_lines, subject_for
from harness.selection import NONE
from harness.versions.measuring import import_failures, measure_in
from harness.versions.resolving import parse_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.searching.probing import Ground
    from harness.selection import Selection
    from harness.versions.measuring import Subject

Row = dict[str, Any]

UNBUILT: Final = "unbuilt"
"""The verdict of the one row of a spec that cannot be built or imported."""

MODES: Final = ("bridge", "bridge_compat", "hooked", "hooked_no_processing")
"""What users load, raw and processed; a spec without a port has `hf_sdpa` alone."""

DTYPES: Final = (EXACT, "float32")
"""Meaning, and the dtype that most people use; bfloat16 takes as long as both of them."""

_KEPT: Final = (
    "family",
    "variant",
    "checkpoint",
    "loading_mode",
    "dtype",
    "device",
    "verdict",
    "reason",
    "first_site",
    "sites_compared",
    "sites_missing",
    "worst_rel_l2",
    "worst_error_ratio",
    "seconds",
)
_SPEC: Final = {
    "spec": "the requirements that were asked for",
    "python": "version of Python of its environment; missing where it is not built",
    "torch": "version of torch that the spec came to; likewise",
    "transformers": "version of transformers that the spec came to; likewise",
    "transformer_lens": "version of TransformerLens; missing also where the spec has none",
}
_UNBUILT_WORDS: Final = f"missing where the verdict is {UNBUILT}"


def schema() -> pa.Schema:
    """Give the columns of sweep.parquet, each with its documentation."""
    recorded = {column.name: column for column in RECORDED["cells"]}
    fields = [pa.field(name, pa.string(), metadata={"doc": doc}) for name, doc in _SPEC.items()]
    for name in _KEPT:
        column = recorded[name]
        kind = pa.string() if pa.types.is_dictionary(column.type) else column.type
        doc = f"{column.doc}; {column.missing or _UNBUILT_WORDS}"
        if name == "verdict":
            doc = f"{column.doc}, or {UNBUILT}: the spec cannot be had here, the reason says why"
        fields.append(pa.field(name, kind, metadata={"doc": doc}))
    return pa.schema(fields)


@cache
def default_grid() -> tuple[str, ...]:
    """Give the specs of grid.csv: releases that were seen to work together."""
    file = Path(harness.versions.__file__).with_name("grid.csv")
    with file.open(encoding="utf-8", newline="") as stream:
        return tuple(row["spec"] for row in csv.DictReader(stream))


def grid_of(specs: Sequence[str], package: str, versions: Sequence[str]) -> tuple[str, ...]:
    """Give the specs to sweep: those named, releases of one package, or the default grid.

    Raises:
        UsageError: a package without versions, or versions without a package; a spec twice.
        RequirementError: a spec is no list of requirements.
    """
    if bool(package) != bool(versions):
        message = "--package and --versions go together; give both, or --spec, or neither"
        raise UsageError(message)
    chosen = (*specs, *(f"{package}=={version}" for version in versions)) or default_grid()
    for spec in chosen:
        parse_spec(spec)
    if len(set(chosen)) != len(chosen):
        message = "a spec is named twice; name each once"
        raise UsageError(message)
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """All rows of a sweep, and where they were written."""

    rows: tuple[Row, ...]
    file: Path


def run_sweep(specs: Sequence[str], ground: Ground) -> Swept:
    """Measure each spec, one after the other; what is finished in the folder is not done again.

    Raises:
        UsageError: none of the specs can be built.
        SelectionError: the selection comes to no cell.
    """
    rows: list[Row] = []
    for place, spec in enumerate(specs, start=1):
        ground.watcher.say(f"{place} of {len(specs)}: {spec}")
        rows += _swept(spec, ground)
    if all(row["verdict"] == UNBUILT for row in rows):
        reasons = "\n           ".join(f"{row['spec']}: {row['reason']}" for row in rows)
        message = (
            f"none of the {len(specs)} specs can be measured\n  found:   {reasons}\n"
            "  next:    name releases that exist and go together"
        )
        raise UsageError(message)
    file = ground.plan.out / "sweep.parquet"
    table = pa.Table.from_pylist(rows, schema=schema())
    scratch = file.with_name(f".{file.name}")
    pq.write_table(table, scratch, compression="zstd")
    scratch.replace(file)
    return Swept(rows=tuple(rows), file=file)


def _swept(spec: str, ground: Ground) -> list[Row]:
    subject: Subject | None = None
    try:
        subject = subject_for(spec, None, ground)
        failing = import_failures(subject)
        asked = _selection_for(subject, ground.selection)
        ports = {mode_named(mode).port for mode in asked.mode}
        for package, words in failing.items():
            if package != PORT or ports != {"transformers"}:
                return [_unbuilt(spec, subject, f"{package} does not import: {words}")]
        run = _measured(spec, subject, asked, ground)
    except (RequirementError, EnvironmentUnavailable) as error:
        return [_unbuilt(spec, subject, first_lines(error))]
    cells = read_cells(run).astype(object)
    kept = cells.where(cells.notna(), None)[list(_KEPT)].to_dict("records")
    return [{**_versions(spec, subject), **{str(k): v for k, v in row.items()}} for row in kept]


def _measured(spec: str, subject: Subject, asked: Selection, ground: Ground) -> Path:
    plan = ground.plan
    question = question_for(asked, (subject,), drawn=plan.drawn, seed=plan.seed)
    # Specs that read alike may come to other releases, and one spec to others another day.
    came_to = f"{subject.environment.python_version} {sorted(subject.environment.versions.items())}"
    name = re.sub(r"[^A-Za-z0-9.]+", "-", spec)
    run = plan.out / f"{name}-{xxhash.xxh3_64_hexdigest(came_to.encode())}"
    file, scratch = run / "question.json", plan.out / ".question.json"
    question.write(scratch)
    if not (file.is_file() and file.read_bytes() == scratch.read_bytes()):
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
    scratch.replace(file)
    total = len(question.cells)
    measure_in(subject, file, run, progress=lambda done: ground.watcher.measured(spec, done, total))
    return run


def _selection_for(subject: Subject, selection: Selection) -> Selection:
    has = modes_for((subject,))
    return dataclasses.replace(
        selection,
        mode=selection.mode or tuple(m for m in MODES if m in has) or ("hf_sdpa",),
        dtype=selection.dtype or DTYPES,
        variant=selection.variant or ("default",),
        probe=selection.probe or (NONE,),
    )


def _versions(spec: str, subject: Subject | None) -> Row:
    found = subject.versions if subject else {}
    return {
        "spec": spec,
        "python": subject.environment.python_version if subject else None,
        "torch": found.get("torch"),
        "transformers": found.get("transformers"),
        "transformer_lens": found.get(PORT),
    }


def _unbuilt(spec: str, subject: Subject | None, reason: str) -> Row:
    empty = dict.fromkeys(_KEPT)
    return {**_versions(spec, subject), **empty, "verdict": UNBUILT, "reason": reason}
