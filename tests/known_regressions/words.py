"""Rows and sums as words: a line when a row is done, the table at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

from harness.selection import NONE
from tests.known_regressions.judging import Outcome
from tests.known_regressions.rows import Obtained


def line_of(outcome: Outcome) -> str:
    """Say of a row that is done whether it is as expected, and what is not."""
    row = outcome.row
    head = f"{row.id}: {_mark(outcome)}, {outcome.seconds:.0f} s"
    return "\n    ".join((head, *outcome.misses))


def table_of(outcomes: Iterable[Outcome]) -> Table:
    """Give the table of all rows: what was expected, and beside it what was obtained."""
    table = Table(box=box.HEAVY_HEAD, show_lines=True, title="known regressions, good → bad")
    for name in ("id", "asked", "expected", "obtained", "size", "drift", "s", ""):
        table.add_column(name, justify="right" if name == "s" else "left", overflow="fold")
    for outcome in outcomes:
        row = outcome.row
        table.add_row(
            row.id,
            f"{row.what}\n{row.asked}",
            "\n".join(map(str, row.expected)),
            _obtained(outcome),
            row.size,
            _sizes(outcome.cells),
            f"{outcome.seconds:.0f}",
            _mark(outcome),
        )
    return table


def _mark(outcome: Outcome) -> str:
    if outcome.false_alarm:
        return "FALSE ALARM"
    return "as expected" if outcome.as_expected else "MISS"


def _obtained(outcome: Outcome) -> str:
    """Give each different answer once, with the modes and dtypes of the cells that gave it."""
    if outcome.failure:
        return outcome.failure
    groups: dict[str, list[Obtained]] = {}
    for cell in outcome.cells:
        groups.setdefault(_answer(cell), []).append(cell)
    if len(groups) == 1:
        return next(iter(groups))
    return "\n".join(f"{_cells(cells)}: {answer}" for answer, cells in groups.items())


def _answer(cell: Obtained) -> str:
    who = cell.attribution if cell.attribution != "none" else ""
    inside = ", ".join(filter(None, (who, cell.nature)))
    words = cell.verdict + (f" ({inside})" if inside else "")
    return f"{words} at {cell.site}" if cell.site else words


def _cells(cells: Sequence[Obtained]) -> str:
    cases = [f"{cell.family}-{cell.variant}" for cell in cells]
    probes = [cell.probe for cell in cells if cell.probe != NONE]
    axes = (cases, [cell.mode for cell in cells], [cell.dtype for cell in cells], probes)
    return " ".join("/".join(dict.fromkeys(values)) for values in axes if values)


def _sizes(cells: Sequence[Obtained]) -> str:
    """Give the largest drift at the first site and at the logits per dtype, or the raw shift."""
    lines = []
    for dtype in dict.fromkeys(cell.dtype for cell in cells):
        of_dtype = [cell for cell in cells if cell.dtype == dtype]
        drifts = [cell.drifts for cell in of_dtype if cell.drifts is not None]
        shifts = [cell.shift for cell in of_dtype if cell.shift is not None]
        if drifts:
            first, logits = (max(each) for each in zip(*drifts, strict=True))
            lines.append(f"{dtype} {first:.1e}, {logits:.1e}")
        if shifts:
            lines.append(f"{dtype} raw shift {max(shifts):.2g}")
    return "\n".join(lines)
