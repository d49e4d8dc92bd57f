"""The command `harness init`: a repository of its users' own begins. Thin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(help="a repository of your own")] = Path(),
    *,
    force: Annotated[bool, typer.Option("--force", help="replace what is there")] = False,
) -> None:
    """Write cases to edit, their test, pins, and workflows for GitHub into a repository.

    Exit code 2: some of it is there already; nothing is written then.
    """
    from harness.scaffold import write

    for path in write(folder, force=force):
        print(f"written: {folder / path}")
    there = "" if folder == Path() else f"cd {folder}; "
    print(
        f"next: {there}pytest                 # measures the tiny Llama of cases/my_models.py\n"
        "      edit cases/my_models.py: your models\n"
        '      harness run && harness baseline accept latest --reason "the first"\n'
        "      git add .github cases reports model-ports.txt\n"
        "      and wheels/ with this package's wheel, if your machines find it on no index"
    )
