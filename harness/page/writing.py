"""Writes a page: data, looks and behaviour in one file that asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import jinja2
from plotly.offline import get_plotlyjs

from harness.page.of_gate import data_of_gate
from harness.page.of_run import data_of_run
from harness.page.packing import packed
from harness.record import write_text
from harness.report.gate_rows import FILE

if TYPE_CHECKING:
    from pathlib import Path

_SCRIPTS: Final = ("data.js", "overview.js", "plots.js", "cell.js", "history.js", "main.js")


def data_of(folder: Path) -> dict[str, Any]:
    """Give what a page of a folder shows: of a run if it is one, else of a gate.

    Raises:
        RunFolderError: the folder is neither, or of another schema version.
    """
    is_run = (folder / "run.json").is_file()
    return data_of_run(folder) if is_run or not (folder / FILE).is_file() else data_of_gate(folder)


def html(data: dict[str, Any]) -> str:
    """Give the page. Only the scripts that it is made with may run, by their digest."""
    assets = resources.files("harness.page") / "assets"
    scripts = [get_plotlyjs(), "\n".join((assets / name).read_text() for name in _SCRIPTS)]
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:; "
        f"style-src 'unsafe-inline'; script-src {' '.join(map(_digest, scripts))}"
    )
    template = jinja2.Environment(autoescape=True).from_string(
        (assets / "page.html.jinja").read_text()
    )
    return template.render(
        policy=policy,
        title=data["title"],
        style=(assets / "page.css").read_text(),
        data=packed(data),
        scripts=scripts,
    )


def write_page(data: dict[str, Any], file: Path) -> None:
    """Write the page; it appears whole or not at all."""
    write_text(file, html(data))


def _digest(script: str) -> str:
    found = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{found}'"
