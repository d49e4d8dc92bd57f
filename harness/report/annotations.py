"""Red cells as annotations of a GitHub job: workflow commands, a line each.

Source: docs.github.com, "Workflow commands for GitHub Actions": percent signs and line ends are
escaped in a message, and colons and commas too in a title.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.record import RED, read_cells
from harness.report.gate_rows import gate_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def of_gate(folder: Path) -> Iterator[str]:
    """Give a line for each cell that is worse.

    Raises:
        RunFolderError: there is no gate, or it is of another schema version.
    """
    for cell in gate_json(folder)["cells"]:
        if cell["worse"]:
            said = (cell["verdict"], cell["nature"], cell["first_site"], cell["reason"])
            yield _error(cell["cell_id"], " · ".join(filter(None, said)))


def of_run(run: Path) -> Iterator[str]:
    """Give a line for each red cell.

    Raises:
        RunFolderError: the folder is no run, or no cell of it was measured.
    """
    cells = read_cells(run)
    for _, cell in cells[cells.verdict.isin(RED)].iterrows():
        yield _error(str(cell.cell_id), f"{cell.verdict}: {cell.reason}")


def _error(title: str, message: str) -> str:
    name = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::error title={name}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
