"""The progress bar of commands that go through parts one by one."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)


def progress_bar() -> Progress:
    """Give a bar on stderr with the name of the part at hand, how many are done, and the time."""
    columns = (TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
