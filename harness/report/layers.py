"""One cell in a terminal: each site's share of what is allowed, as a line over the layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import pandas as pd
from rich.table import Table
from rich.text import Text

from harness.record import RED, read_cells, read_deltas, read_prompts
from harness.report.marks import name_of
from harness.report.shares import shares_of
from harness.report.words import message_of, rendered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

KEY: Final = (
    "share: what is judged (rel_l2 in exact mode, else error ratio) by what is allowed, the worst "
    "prompt's; lines go from a ten-thousandth (▁) to all of it (▇), █ is more than is allowed"
)
_BARS: Final = "▁▂▃▄▅▆▇"
_LOWEST: Final = -4.0
"""A ten-thousandth, as its logarithm: what is less is drawn as that."""
_NONE: Final = " "
_OVER: Final = "█"


def print_cell(run: Path, cell_id: str, *, write: Callable[[str], None]) -> None:
    """Print a cell of a run: each site over the layers, and what is said of it."""
    cell = read_cells(run, cell=cell_id).iloc[0]
    own = read_deltas(run, cell=cell_id)
    if not own.empty:
        for line in rendered(table_of(cell, own)).splitlines():
            write(line.rstrip())
        write(KEY)
        write("")
    red = cell.verdict in RED
    said = cell.reason if isinstance(cell.reason, str) else "every site is as it should be"
    write(
        message_of(cell, own, read_prompts(run, cell=cell_id)) if red else f"{cell.verdict}: {said}"
    )


def table_of(cell: pd.Series, deltas: pd.DataFrame) -> Table:
    """Give a row per site, layers side by side, in forward order.

    Args:
        cell: The cell's row.
        deltas: Its deltas.
    """
    known = {str(name): None if pd.isna(value) else value for name, value in cell.items()}
    table = Table(title=f"{name_of(known)}: {cell.verdict}", title_justify="left", pad_edge=False)
    for column in ("site", "over layers", "worst share", "in layer", "relation", "taken out"):
        table.add_column(column, justify="left" if column in {"site", "relation"} else "right")
    rows = deltas.assign(share=shares_of(deltas), name=_names(deltas))
    for name, of_site in rows.groupby("name", sort=False):
        worst = of_site.sort_values("share", kind="stable").iloc[-1]
        over = worst.share > 1.0
        layer = "" if math.isnan(worst.layer) else str(int(worst.layer))
        table.add_row(
            Text(f"✗ {name}" if over else str(name), style="red" if over else ""),
            Text(sparkline(_by_layer(of_site))),
            f"{worst.share:.2g}",
            layer,
            str(worst.relation),
            f"{of_site.shift_abs.max():.2g}" if of_site.shift_abs.max() else "",
        )
    return table


def _by_layer(rows: pd.DataFrame) -> dict[int, float]:
    worst = rows.dropna(subset="layer").groupby("layer").share.max()
    return {int(layer): share for layer, share in zip(worst.index, worst, strict=True)}


def sparkline(shares: Mapping[int, float]) -> str:
    """Draw shares of what is allowed over layers, from the first to the last that has one."""
    if not shares:
        return ""
    layers = range(int(min(shares)), int(max(shares)) + 1)
    return "".join(_bar(shares[layer]) if layer in shares else _NONE for layer in layers)


def _bar(share: float) -> str:
    if not share <= 1.0:
        return _OVER
    height = 1.0 - math.log10(max(share, 10.0**_LOWEST)) / _LOWEST
    return _BARS[min(int(height * len(_BARS)), len(_BARS) - 1)]


def _names(deltas: pd.DataFrame) -> pd.Series:
    """Name sites without their layer."""
    return deltas.site.astype(str).str.replace(r"blocks\.\d+\.", "", regex=True)
