"""The command `harness newer`: which releases are newer than the pins. Thin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

PINS: Final = Path("constraints.txt")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(newer)


def newer(
    *,
    pins: Annotated[Path, typer.Option(help="file of pins, name==version a line")] = PINS,
    as_json: Annotated[
        bool, typer.Option("--json", help="the gates to ask, as a matrix of jobs takes them")
    ] = False,
) -> None:
    """Ask pip's index for releases of the model libraries that are newer than the pins.

    Exit code 0: it was asked, whether any is newer or not; 2: it could not be.
    """
    from harness.versions.newer import gates_for, newest, pins_of

    pinned = pins_of(pins)
    found = newest(pinned)
    gates = gates_for(pinned, found)
    if as_json:
        print(json.dumps(gates))
        return
    for name, version in pinned.items():
        print(f"{name} {version}: " + (f"{found[name]} is newer" if name in found else "newest"))
    for gate in gates:
        print(
            f'next: harness gate --baseline "{gate["baseline"]}" --candidate "{gate["candidate"]}"'
        )
