"""The command: measures what was asked for, prints each number beside its target, keeps them.

Exit codes: 0 all targets that were measured are met; 1 one is missed; 2 some could not be
measured, or were not asked for.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from tests.bench.findings import Finding

BENCHES = {
    "overhead": "a",
    "notebook": "b",
    "checker": "c",
    "kernels": "d",
    "matrix": "e",
    "rows": "f",
    "gate": "g",
    "memory": "memory",
}
"""By module, the letters of what it measures. `ray` and `cost` are commands of their own."""
MARKS = {True: "✓", False: "✗", None: ""}


def main(arguments: list[str]) -> int:
    """Do what the arguments say; give the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", action="append", default=[], choices=list(BENCHES))
    parser.add_argument("--out", type=Path, default=Path("reports/bench"))
    given = parser.parse_args(arguments)
    found: list[Finding] = []
    failed: list[str] = []
    said = Console(stderr=True, highlight=False, markup=False)
    for name in given.only or BENCHES:
        said.print(f"  {name} …")
        try:
            for each in importlib.import_module(f"tests.bench.{name}").measure():
                found.append(each)  # noqa: PERF402 - what is measured before it fails is kept
        except Exception:  # noqa: BLE001 - what others measured for minutes is not lost
            said.print_exception()
            failed.append(name)
    Console(width=140, highlight=False, markup=False).print(table_of(found))
    now = dt.datetime.now(dt.timezone.utc)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame([{**asdict(each), "met": each.met, "measured": now} for each in found])
    rows.to_parquet(given.out / f"{now:%Y%m%dT%H%M%S}.parquet")
    if failed:
        said.print(f"not measured: {', '.join(failed)}")
        return 2
    return int(any(each.met is False for each in found))


def table_of(found: list[Finding]) -> Table:
    """Give the numbers beside their targets."""
    table = Table("", "what", "measured", "unit", "target", "", "", title="bench")
    for each in found:
        cells = (each.bench, each.name, f"{each.value:.2f}", each.unit, each.target)
        table.add_row(*cells, MARKS[each.met], each.note)
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
