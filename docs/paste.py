"""Puts what a command printed into README, between a block's two markers.

    COLUMNS=160 .venv/bin/harness show latest | python3 docs/paste.py matrix "family × loading mode"
    COLUMNS=160 .venv/bin/harness show latest | python3 docs/paste.py probes "family × probe"
    .venv/bin/harness coverage | tail -17 | python3 docs/paste.py coverage
    make bench | python3 docs/paste.py bench
    make teeth | python3 docs/paste.py teeth; make quiet | python3 docs/paste.py quiet
    make known-regressions | tail -2 | python3 docs/paste.py recall
    .venv/bin/harness explain latest CELL | python3 docs/paste.py explain

With a title, only the table below it is taken, and the line that counts cells.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
COUNTS = re.compile(r"\d+ cells: ")


def paste(text: str, block: str, printed: str) -> str:
    """Give the text with what was printed in its block, indented as Markdown wants code."""
    start, end = f"<!-- {block} -->", f"<!-- {block} end -->"
    if text.count(start) != 1 or text.count(end) != 1 or not printed.strip():
        sys.exit(f"README has not one {start} … {end}, or nothing was printed")
    lines = printed.strip("\n").splitlines()
    indented = "\n".join(f"    {line}".rstrip() for line in lines)
    before, rest = text.split(start)
    return f"{before}{start}\n\n{indented}\n\n{end}{rest.split(end)[1]}"


def section(printed: str, title: str) -> str:
    """Give the table below a title, up to the next empty line, and the line that counts cells."""
    lines = printed.splitlines()
    at = next((place for place, line in enumerate(lines) if line.strip() == title), None)
    if at is None:
        sys.exit(f"nothing printed has the title {title!r}")
    end = next((place for place in range(at, len(lines)) if not lines[place].strip()), len(lines))
    counts = [line for line in lines if COUNTS.match(line)]
    return "\n".join([*lines[at:end], "", *counts])


if __name__ == "__main__":
    block, *titles = sys.argv[1:]
    given = sys.stdin.read()
    given = section(given, titles[0]) if titles else given
    README.write_text(paste(README.read_text(), block, given))
