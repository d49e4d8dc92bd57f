"""What commands print with: the terminal, and the bar of those that go through parts.

rich is imported when something is printed: `harness --help` and errors do not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def terminal(
    *,
    width: int | None = None,
    highlight: bool = True,
    soft_wrap: bool = False,
    stderr: bool = False,
) -> Console:
    """Give a console of rich."""
    from rich.console import Console

    # What rows and errors say is no markup: `[/b]` in a name is a name.
    return Console(
        width=width, highlight=highlight, soft_wrap=soft_wrap, stderr=stderr, markup=False
    )


def progress_bar(console: Console | None = None) -> Progress:
    """Give a bar with the name of the part at hand, how many are done, and the time; on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console or terminal(stderr=True))
