"""Pieces of a Markdown page: tables, quoted words, links. No folder of a machine is named."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHOWN: Final = 300  # characters of what a library said
_URL: Final = re.compile(r"https?://\S+")
# From the root, or a drive, to the last folder: the file's own name stays.
_FOLDERS: Final = re.compile(
    r"(?:file:/*|(?<![\w/.…]))/+(?:[^\s/'\"]+/+)+|\b[A-Za-z]:\\(?:[^\s\\]+\\)*"
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Give the lines of a table; a bar inside a word does not end its column."""
    lines = [_row(head), "|" + "---|" * len(head)]
    return [*lines, *map(_row, rows)]


def _row(words: Sequence[str]) -> str:
    return f"| {' | '.join(word.replace('|', chr(92) + '|') for word in words)} |"


def quoted(text: str) -> str:
    """Give words as they were said, on one line and without folders; long ones are cut."""
    line = without_folders(" ".join(text.split())).replace("`", "'")
    return f"`{line if len(line) <= _SHOWN else line[:_SHOWN] + ' …'}`"


def named(name: object) -> str:
    """Give a name of a row on one line, as code: what stands in it is no Markdown."""
    return f"`{' '.join(str(name).split()).replace('`', chr(39))}`"


def without_folders(text: str) -> str:
    """Leave the folders of absolute paths out of a text; addresses of pages stay."""
    pages = _URL.findall(text)
    parts = [_FOLDERS.sub("…/", part) for part in _URL.split(text)]
    return "".join(word for pair in zip(parts, [*pages, ""], strict=True) for word in pair)


def link(name: str, target: str, *, place: str | None) -> str:
    """Give a link to a page by its address or by its path in the repository.

    Args:
        name: What is read.
        target: An address, or a path such as docs/findings/x.md.
        place: The folder of the page that links, from the repository's root; None where the page
            lies outside of it, so that a path is named and not linked.
    """
    if _URL.fullmatch(target):
        return f"[{name}]({target})"
    if place is None:
        return f"{name} (`{without_folders(target)}`)"
    return f"[{name}]({posixpath.relpath(target, place or '.')})"
