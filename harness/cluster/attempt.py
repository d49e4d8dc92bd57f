"""One attempt: a subprocess of the environment's Python measures cells, and is watched.

Whatever happens to it (a segmentation fault, the kernel's out-of-memory killer, a hang) happens
to it alone; cells that it has finished by then are kept.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.cluster.outcomes import begun_in, ended_in
from harness.record import write_json
from harness.surroundings import HUB, INDEX, child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness.cluster.piece import Piece

_POLL_SECONDS: Final = 0.5
_ALWAYS: Final = ("-q", "-p", "no:cacheprovider")
_USAGE_ERROR: Final = 4
"""pytest's exit code where the question could not be asked: it would not be the second time."""
_TELLING: Final = ("ERROR", "Fatal Python error")
"""How lines begin in which pytest, and Python's faulthandler, say what is wrong."""
_WORDS: Final = 300
"""Characters of a subprocess's last line that a reason holds: a sentence, no log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a subprocess ended, what it said, at which cell, after how long; whether it refused."""

    words: str
    said: str
    begun: str | None
    refused: bool
    seconds: float


def attempt(piece: Piece, scratch: Path, *, take: Callable[[Path, Sequence[str]], None]) -> Ending:
    """Measure the cells of a piece in a subprocess; `take` gets the run and cells as they end."""
    file = scratch / "piece.json"
    write_json(file, piece.written())
    run = scratch / piece.run_id
    command = [piece.python, "-m", "pytest", *piece.finding, *_ALWAYS, f"--piece={file}"]
    said = scratch / "said.txt"
    started = time.monotonic()
    with said.open("wb") as output:
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell
                command,
                cwd=piece.folder,
                env={**child_environment(keep=(*HUB, *INDEX)), **piece.variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            words = f"the node lacks the driver's folder or Python: {error}"
            return Ending(words=words, said="", begun=None, refused=True, seconds=0.0)
    try:
        code = _watched(process, piece, run, take)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started itself, too
        process.wait()
    return Ending(
        words=_ending(code, piece.cell_timeout),
        said=_telling_line(said),
        begun=begun_in(run),
        refused=code == _USAGE_ERROR,
        seconds=time.monotonic() - started,
    )


def _watched(
    process: subprocess.Popen[bytes],
    piece: Piece,
    run: Path,
    take: Callable[[Path, Sequence[str]], None],
) -> int | None:
    """Wait for a subprocess and hand its cells on; give its exit code, None if it hung."""
    taken: set[str] = set()
    heard = time.monotonic()
    while True:
        try:
            code = process.wait(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        fresh = [cell for cell in ended_in(run, piece.cells) if cell not in taken]
        if fresh:
            take(run, fresh)
            taken.update(fresh)
            heard = time.monotonic()
        if code is not None or time.monotonic() - heard > piece.cell_timeout:
            return code


def _ending(code: int | None, cell_timeout: float) -> str:
    if code is None:
        return f"it did not end within --cell-timeout, {cell_timeout:g} s"
    if code >= 0:
        return f"its process ended with exit code {code}"
    return f"its process was killed by {signal.Signals(-code).name}"


def _telling_line(said: Path) -> str:
    """Give the line in which a subprocess said what is wrong, else its last one."""
    text = said.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(_TELLING)] or lines[-1:]
    return telling[-1][:_WORDS] if telling else "nothing"
