"""The steps of a history as a table, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

_MOST: Final = 60


def table_of(steps: pd.DataFrame) -> Table:
    """Give a row per step, as `harness.history.finding.find_steps` gives them."""
    table = Table(title=f"steps ({len(steps)})", title_justify="left")
    for name in ("day", "first run", "step", "cell", "before → after", "what changed"):
        table.add_column(name, overflow="fold")
    for _, step in steps.head(_MOST).iterrows():
        table.add_row(
            f"{step.started:%Y-%m-%d}",
            str(step.run_id),
            f"{'✗ ' if step.worse else ''}{step.kind}",
            str(step.cell_id),
            f"{_words(step.before)} → {_words(step.after)}",
            str(step.changed),
            style="red" if step.worse else "",
        )
    if len(steps) > _MOST:
        table.caption = f"… and {len(steps) - _MOST} older ones: --out FILE has all"
    return table


def _words(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
