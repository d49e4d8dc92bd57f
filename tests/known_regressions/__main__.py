"""The command: asks the rows, prints each as it is done, then the table and the sums.

Exit codes: 0 enough is as expected and nothing is a false alarm; 1 it is not so; 2 not asked.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from harness.gating import Watcher
from tests.known_regressions.asking import ask, judge
from tests.known_regressions.judging import score_of
from tests.known_regressions.rows import load_rows
from tests.known_regressions.words import line_of, table_of

WIDTH = 190


def main(arguments: list[str]) -> int:
    """Do what the arguments say; give the exit code."""
    rows = load_rows()
    parser = argparse.ArgumentParser(prog="known_regressions", description=__doc__)
    parser.add_argument("--row", action="append", default=[], choices=[row.id for row in rows])
    parser.add_argument("--out", type=Path, default=Path("reports/runs/known-regressions"))
    parser.add_argument("--replay", action="store_true", help="judge again what --out has")
    parser.add_argument("--page", type=Path, help="a page to put the table in, between its marks")
    given = parser.parse_args(arguments)
    chosen = [row for row in rows if not given.row or row.id in given.row]
    whole = len(chosen) == len(rows)
    if given.page and not whole:
        parser.error("--page takes the whole table; leave out --row")
    console = Console(width=WIDTH, highlight=False, markup=False, record=True)
    err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    watcher = Watcher(say=lambda words: err.print(f"  {words}"), measured=lambda *_: None)
    outcomes = []
    for row in chosen:
        outcomes.append(judge(row, given.out) if given.replay else ask(row, given.out, watcher))
        err.print(line_of(outcomes[-1]))
    score = score_of(outcomes, whole=whole)
    console.print(table_of(outcomes))
    console.print(str(score))
    if not given.replay:
        console.print(f"asked {datetime.now(UTC):%Y-%m-%d}")
    if given.page:
        put_between_marks(given.page, console.export_text())
    return 0 if score.good_enough else 1


def put_between_marks(page: Path, words: str) -> None:
    """Put a table into a page, indented as code, in place of what is between its marks."""
    start, end = "<!-- table -->", "<!-- table end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(start)
    _, found, after = rest.partition(end)
    if not found:
        message = f"{page} has no {start} … {end}"
        raise ValueError(message)
    lines = "\n".join(f"    {line}".rstrip() for line in words.splitlines())
    page.write_text(f"{before}{start}\n\n{lines}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
