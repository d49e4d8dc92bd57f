"""Turns every bit of the pages of a small packed run: python -m tests.fuzz.bits positions cells.

Seals are of footers there, and checksums of pages; what is between them, the pages' headers, has
neither. So all of it is tried.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console

from harness.errors import HarnessError
from harness.record import PACKED
from tests.fuzz.readers import FRAMES, rows_of
from tests.fuzz.things import things

_LARGE = 9000  # bytes from which on every seventh bit is turned: a minute a file


def outcomes(run: Path, kind: str) -> Counter[str]:
    """Turn bits before the footer of a packed file, one at a time; count what is read then."""
    file, read, found = run / kind / PACKED, FRAMES[kind], Counter[str]()
    content, expected = file.read_bytes(), rows_of(read(run))
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for bit in range(0, footer * 8, 1 if len(content) < _LARGE else 7):
        turned = bytearray(content)
        turned[bit // 8] ^= 1 << bit % 8
        file.write_bytes(turned)
        try:
            found["same" if rows_of(read(run)) == expected else "wrong"] += 1
        except HarnessError:
            found["refused"] += 1
    file.write_bytes(content)
    return found


def main() -> int:
    """Print a line per kind of row; anything else than a refusal in words ends it."""
    console, total = Console(highlight=False), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        run = {thing.name: thing.folder for thing in things(Path(folder))}["a packed run"]
        for kind in sys.argv[1:] or sorted(FRAMES):
            found = outcomes(run, kind)
            total += found
            told = (f"{number} {outcome}" for outcome, number in sorted(found.items()))
            console.print(kind, *told)
    console.print(f"{total.total()} bits turned: {total['wrong']} wrong")
    return int(total["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
