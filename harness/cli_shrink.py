"""The command `harness shrink`: a tiny twin of a user's model."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from harness.cli_progress import terminal
from harness.errors import SelectionError, UsageError
from harness.selection import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from harness.models.checkpoints.twin import Change, Original

NEXT: Final = "harness measure current --checkpoint folder:{out} --family {family}"
"""The command that measures a twin."""

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+(@.*)?")
# A screenful, and words that fit it.
_ROWS: Final = 30
_VALUE: Final = 40
_WIDTH: Final = 120


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(shrink)


def shrink(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_TYPE|HUB_ID|FOLDER",
            help="what to make a twin of; of a folder or a hub model, config.json alone is read",
        ),
    ],
    out: Annotated[Path, typer.Argument(help="the twin's folder, new or empty")],
    *,
    kind: Annotated[
        Literal["causal", "seq2seq", "masked"] | None,
        typer.Option("--as", help="how text is modelled, where config.json does not say it"),
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(
            "--register",
            metavar="MODULE",
            help="import it first: it registers an architecture of yours with AutoConfig and Auto…",
        ),
    ] = None,
) -> None:
    """Make a tiny twin of a model: sizes become small, all else stays, weights are drawn by name.

    Nothing is written before the twin has been loaded and run. Exit code 2: no twin.
    """
    from harness.models.checkpoints import twin

    twin.check_out(out)
    if module is not None:
        _import(module)
    original, said = _original(model)
    made = twin.write_twin(original, out, twin.auto_class_for(original, kind))
    console = terminal(width=_WIDTH, highlight=False)
    lost = ", ".join(made.tiny.lost)
    rows = {
        "twin of": said,
        "model type": original.model_type,
        "class": made.tiny.config["architectures"][0],
        "parameters": f"{made.tiny.parameters:,}",
        "attempt": made.tiny.attempt,
        "lost": f"modules that no small one has: {lost}" if lost else "no kind of module",
    }
    for name, value in rows.items():
        console.print(f"{name:<11} {value}", markup=False, soft_wrap=True)
    _print_changes(console, made.changes)
    following = NEXT.format(out=shlex.quote(str(out)), family=original.model_type)
    console.print(f"written: {out}\nnext:    {following}", markup=False, soft_wrap=True)


def _import(module: str) -> None:
    """Import a module of the user's, from the current directory too.

    Raises:
        UsageError: it cannot be imported.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a module of the user's does
        message = (
            f"--register {module}: cannot be imported ({type(error).__name__}: {error}); write it "
            "as in `import`, without .py, and see that it is installed or in this folder"
        )
        raise UsageError(message) from error


def _original(model: str) -> tuple[Original, str]:
    """Give what is meant, and a sentence that says it; a folder with a config.json comes first.

    Raises:
        UsageError: it is none of the three; says the nearest model type.
    """
    from harness.models.architectures import known_types
    from harness.models.checkpoints import twin

    folder, types = Path(model).expanduser(), known_types()
    if (folder / "config.json").is_file():
        found = twin.original_of_folder(folder)
        note = " (the folder, not the model type of this name)" if model in types else ""
        return found, f"{found.said}{note}"
    if model in types:
        found = twin.original_of_type(model)
        note = " (the folder of this name has no config.json)" if folder.exists() else ""
        return found, f"{found.said}{note}"
    if folder.exists():
        message = f"{model}: no config.json in it; name a folder in the hub's format"
        raise UsageError(message)
    if _HUB_ID.fullmatch(model) and not model.startswith("."):
        found = twin.original_of_hub(model)
        return found, found.said
    if "/" in model:
        message = f"{model}: no such folder, and no id of the hub; write FOLDER or <owner>/<model>"
        raise UsageError(message)
    message = (
        f"unknown model type {model!r}; {did_you_mean(model, types)}allowed: one of the "
        f"{len(types)} that have a text model here, a folder with config.json, or <owner>/<model>; "
        "an architecture of yours is known once its module is named with --register"
    )
    raise SelectionError(message)


def _print_changes(console: Console, changes: Sequence[Change]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table("field", "was", "is", box=SIMPLE)
    console.print(f"{len(changes)} fields changed:")
    for change in changes[:_ROWS]:
        table.add_row(change.field, Text(_short(change.was)), Text(_short(change.now)))
    console.print(table)
    if len(changes) > _ROWS:
        console.print(f"and {len(changes) - _ROWS} more; compare the two files", markup=False)


def _short(value: object) -> str:
    words = str(value)
    return words if len(words) <= _VALUE else f"{words[: _VALUE - 1]}…"
