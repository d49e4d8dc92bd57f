"""What rows cost: writing, packing and reading a run of millions, and bytes per row.

python -m tests.bench.rows --rows 10000000

Rows are like those of a run (25 families × 8 modes × 3 dtypes, 60 sites × 8 prompts a cell), with
random numbers, which are the hardest to compress. They go the way that rows of a run go: parts by
`write_part` and `pack`, millions of them by the writer that packing ends in.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count, islice, product
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from harness.record import (
    COLUMNS,
    SCHEMA_VERSION,
    Portion,
    pack,
    read_deltas,
    write_json,
    write_part,
    write_run,
)
from harness.record.columns import plain_schema
from tests.bench.findings import Finding

FAMILIES: Final = tuple(f"family{i:02}" for i in range(25))
MODES: Final = (
    *("bridge", "compat", "no_processing", "fold_ln", "center_writing", "center_unembed"),
    *("fold_v_bias", "hf_sdpa"),
)
DTYPES: Final = ("bfloat16", "exact", "float32")
SITES: Final = (
    "embed",
    *(f"blocks.{layer}.site{name}" for layer in range(2) for name in range(29)),
    "logits",
)
PROMPTS: Final = 8
A_CELL: Final = len(SITES) * PROMPTS
ASKED: Final = {"family": FAMILIES[11], "loading_mode": MODES[3]}
FEW: Final = ("site", "layer", "rel_l2", "verdict")
TEN_MILLION: Final = 10_000_000
SMALL: Final = 200
"""Cells that are written as parts of their own: enough for a rate, at 20 ms a cell."""
TIMES: Final = 5
_NUMBERS: Final = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What n rows of deltas cost, in seconds and bytes."""

    rows: int
    cells: int
    writing: float
    bytes_packed: float
    bytes_in_parts: float
    writing_parts: float
    packing_parts: float
    reading_parts: float
    rows_in_parts: int
    asked: int
    reading_asked: float
    reading_few: float
    reading_few_of_all: float


def rows(n: int) -> Rows:
    """Measure n rows, in a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        parts = _small(Path(folder) / "parts")
        run = Path(folder) / "packed"
        cells = list(islice(_cells(), -(-n // A_CELL)))
        left = n - (len(cells) - 1) * A_CELL
        made = dict.fromkeys(cells, A_CELL) | {cells[-1]: left}
        _describe(run)
        portions = [_portion("deltas", cell, rows) for cell, rows in made.items()]
        owners = [_portion("cells", cell, 1) for cell in cells]
        writing, _ = _timed(lambda: write_run(run, {"deltas": portions, "cells": owners}), times=1)
        reading_asked, found = _timed(lambda: read_deltas(run, **ASKED))
        if set(found.family) != {ASKED["family"]}:
            message = f"asked for {ASKED}, got {len(found)} rows of {set(found.family)}"
            raise ValueError(message)
        return Rows(
            rows=n,
            cells=len(cells),
            writing=writing,
            bytes_packed=_bytes_of(run) / n,
            asked=len(found),
            reading_asked=reading_asked,
            reading_few=_timed(lambda: read_deltas(run, columns=FEW, **ASKED))[0],
            reading_few_of_all=_timed(lambda: read_deltas(run, columns=FEW))[0],
            **parts,
        )


def measure() -> Iterator[Finding]:
    """Give what is held of ten million rows; the command tells more."""
    found = rows(TEN_MILLION)
    yield Finding(
        bench="f",
        name="one family and mode of 10 million rows, all columns",
        value=found.reading_asked,
        unit="seconds",
        at_most=1.0,
        note=f"{found.asked:,} rows; {len(FEW)} columns {found.reading_few:.2f} s",
    )
    yield Finding(bench="f", name="a row on disk", value=found.bytes_packed, unit="bytes")
    yield Finding(
        bench="f", name="rows written", value=found.rows / found.writing / 1000, unit="thousand/s"
    )


def _small(run: Path) -> dict[str, Any]:
    """Measure parts of their own: writing, reading, packing."""
    _describe(run)
    cells = list(islice(_cells(), SMALL))
    made = [(cell, _table("deltas", cell, A_CELL).to_pylist()) for cell in cells]

    def write() -> None:
        for cell, its_rows in made:
            write_part(run, "deltas", _name(cell), its_rows)
            write_part(run, "cells", _name(cell), _table("cells", cell, 1).to_pylist())

    writing, _ = _timed(write, times=1)
    reading, _ = _timed(lambda: read_deltas(run))
    size = _bytes_of(run)
    packing, _ = _timed(lambda: pack(run), times=1)
    number = SMALL * A_CELL
    return {
        "rows_in_parts": number,
        "writing_parts": writing,
        "reading_parts": reading,
        "bytes_in_parts": size / number,
        "packing_parts": packing,
    }


Axes = tuple[str, str, str, int]


def _cells() -> Iterator[Axes]:
    """Give cells: family, mode, dtype and a variant, each combination before the next variant."""
    for variant in count():
        for family, mode, dtype in product(FAMILIES, MODES, DTYPES):
            yield family, mode, dtype, variant


def _name(cell: Axes) -> str:
    family, mode, dtype, variant = cell
    return f"{family}-variant{variant}.{mode}.{dtype}"


def _portion(kind: Any, cell: Axes, number: int) -> Portion:
    family, mode, dtype, _ = cell
    return Portion(
        name=_name(cell),
        key=(family, mode, dtype),
        of_cell=kind != "cells",
        read=lambda: _table(kind, cell, number),
    )


def _table(kind: str, cell: Axes, number: int) -> pa.Table:
    """Give the rows of a cell: its axes, sites and prompts in their order, numbers at random."""
    family, mode, dtype, variant = cell
    known = {"run_id": "bench", "cell_id": _name(cell), "family": family, "loading_mode": mode}
    known |= {"variant": f"variant{variant}", "checkpoint": "synthetic", "port": "bridge"}
    known |= {"dtype": dtype, "device": "cpu", "verdict": "pass", "relation": "equal"}
    shared, none = _shared(kind, number), pa.array(np.zeros(number, np.int32))
    drawn = random.Random(_name(cell))
    columns = []
    for column in COLUMNS[kind]:
        if column.name in known:
            names = pa.array([known[column.name]])
            columns.append(pa.DictionaryArray.from_arrays(none, names))
        elif pa.types.is_floating(column.type):
            start = drawn.randrange(_NUMBERS - number)
            values = _numbers()[start : start + number]
            columns.append(pa.array(values, column.type))
        else:
            columns.append(shared[column.name])
    return pa.Table.from_arrays(columns, schema=plain_schema(kind))


@cache
def _numbers() -> np.ndarray:
    """Give random numbers, of which each column of a cell takes others: to draw all takes longer
    than to write them.
    """
    return (10.0 ** np.random.default_rng(0).normal(-7.0, 1.0, _NUMBERS)).astype(np.float32)


@cache
def _shared(kind: str, number: int) -> dict[str, pa.Array]:
    """Give the columns that are the same in each cell."""
    places = np.arange(number)
    several = {
        "site": (places % len(SITES), SITES),
        "prompt_id": (places // len(SITES), tuple(f"{i:016x}" for i in range(PROMPTS))),
        "tensor_shape": (places % 5, ("2x11x20", "2x4x11x11", "2x11x4x5", "2x11x80", "2x11x97")),
    }
    found = {}
    for column in COLUMNS[kind]:
        if column.name in several:
            codes, names = several[column.name]
            codes = pa.array(codes.astype(np.int32))
            found[column.name] = pa.DictionaryArray.from_arrays(codes, pa.array(names))
        elif pa.types.is_dictionary(column.type):
            found[column.name] = pa.nulls(number, column.type)
        elif pa.types.is_integer(column.type):
            found[column.name] = pa.array(places % 29, column.type)
        elif pa.types.is_boolean(column.type):
            found[column.name] = pa.array(places % 3 == 0)
        elif pa.types.is_string(column.type):
            words = [f"0,{i % 11},{i % 20}" for i in range(number)]
            found[column.name] = pa.array(words, column.type)
    return found


def _describe(run: Path) -> None:
    write_json(run / "run.json", {"schema_version": SCHEMA_VERSION, "run_id": run.name})


def _timed(task: Callable[[], Any], *, times: int = TIMES) -> tuple[float, Any]:
    """Give the median of several times, and what came of the last."""
    took, found = [], None
    for _ in range(times):
        found = None  # one result at a time
        start = time.perf_counter()
        found = task()
        took.append(time.perf_counter() - start)
    return statistics.median(took), found


def _bytes_of(run: Path) -> int:
    return sum(file.stat().st_size for file in (run / "deltas").glob("*.parquet"))


def table_of(found: Sequence[Rows]) -> Table:
    """Give a row per measurement, a column per number of rows."""
    table = Table(title="rows of deltas", title_justify="left")
    table.add_column("")
    for each in found:
        table.add_column(f"{each.rows:,}", justify="right")
    lines: dict[str, Callable[[Rows], str]] = {
        "cells": lambda each: f"{each.cells:,}",
        "written packed": lambda each: f"{each.writing:.1f} s",
        "written packed, rows/s": lambda each: f"{each.rows / each.writing:,.0f}",
        "bytes per row, packed": lambda each: f"{each.bytes_packed:.1f}",
        "one family and mode: rows": lambda each: f"{each.asked:,}",
        "one family and mode: all columns": lambda each: f"{each.reading_asked:.3f} s",
        "one family and mode: rows/s": lambda each: f"{each.asked / each.reading_asked:,.0f}",
        f"one family and mode: {len(FEW)} columns": lambda each: f"{each.reading_few:.3f} s",
        f"all rows: {len(FEW)} columns": lambda each: f"{each.reading_few_of_all:.2f} s",
        f"{SMALL} parts, bytes per row": lambda each: f"{each.bytes_in_parts:.1f}",
        f"{SMALL} parts, written, rows/s": lambda each: (
            f"{each.rows_in_parts / each.writing_parts:,.0f}"
        ),
        f"{SMALL} parts, read, rows/s": lambda each: (
            f"{each.rows_in_parts / each.reading_parts:,.0f}"
        ),
        f"{SMALL} parts, packed": lambda each: f"{each.packing_parts:.2f} s",
    }
    for name, of in lines.items():
        table.add_row(name, *map(of, found))
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    asked = parser.parse_args().rows
    console = Console(width=100)
    console.print(table_of([rows(n) for n in asked]))
    console.print(
        f"medians of {TIMES}, the files in the system's cache; written and packed once, deltas and "
        f"cells; {len(COLUMNS['deltas'])} columns"
    )


if __name__ == "__main__":
    main()
