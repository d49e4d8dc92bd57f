"""Seals: a stored file holds the sha256 of its own bytes, so that any that turned is told.

The digest is taken with zeros in the place of its own digits. A part and a JSON file are sealed
whole. Of a packed file, of which a filter reads a few pages, the footer is: its pages have
checksums of their own (docs/decisions/0025). A file without a seal was written before there were
seals, and is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow.parquet as pq

SEAL: Final = "seal"
"""The key under which a seal stands: in a JSON file, or in a parquet file's footer."""
_WORDS: Final = b"seal:sha256:"
_DIGITS: Final = 64
_ZEROS: Final = b"0" * _DIGITS
BLANK: Final = (_WORDS + _ZEROS).decode()
"""What is written in the place of a seal, before there is one."""

_MAGIC: Final = b"PAR1"
_END: Final = 8  # bytes: the footer's length and the magic
_BROKEN: Final = "it is not as it was written: a seal that does not fit"


def sealed(content: bytes) -> bytes:
    """Give content, which holds BLANK, with its seal in the place of that.

    Raises:
        ValueError: it does not hold BLANK.
    """
    start = content.rindex(BLANK.encode()) + len(_WORDS)
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:start] + digest + content[start + _DIGITS :]


def is_sealed(content: bytes) -> bool:
    """Say whether content has a seal.

    Raises:
        ValueError: it has one that does not fit: a byte has changed since.
    """
    place = content.rfind(_WORDS)
    if place < 0:
        return False
    start = place + len(_WORDS)
    blank = content[:start] + _ZEROS + content[start + _DIGITS :]
    if hashlib.sha256(blank).hexdigest().encode() != content[start : start + _DIGITS]:
        raise ValueError(_BROKEN)
    return True


def seal_part(file: Path) -> None:
    """Seal a parquet file whose footer holds BLANK, all of it."""
    file.write_bytes(sealed(file.read_bytes()))


def seal_footer(file: Path) -> None:
    """Seal a parquet file whose footer holds BLANK; the footer alone."""
    with file.open("r+b") as stream:
        footer = _footer_in(stream)
        stream.seek(-len(footer), os.SEEK_END)
        stream.write(sealed(footer))


def check_footer(file: Path) -> bool:
    """Say whether a parquet file's footer has a seal, before it is parsed.

    Raises:
        ValueError: the file is truncated, or its seal does not fit.
    """
    with file.open("rb") as stream:
        return is_sealed(_footer_in(stream))


def check_opened(opened: pq.ParquetFile, *, has_seal: bool) -> None:
    """Refuse a file whose footer names a seal that was not found.

    Raises:
        ValueError: it does.
    """
    if (SEAL.encode() in (opened.metadata.metadata or {})) != has_seal:
        raise ValueError(_BROKEN)


def check_indices(table: pa.Table) -> None:
    """See that names which columns point to are there: a page's header has no checksum.

    Raises:
        pyarrow.ArrowInvalid: a dictionary is shorter than it was.
    """
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            for chunk in column.chunks:
                chunk.validate(full=True)


def _footer_in(stream: Any) -> bytes:  # noqa: ANN401 - a binary file, which has no common type
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - _END, 0))
    end = stream.read()
    length = int.from_bytes(end[:-4], "little") + _END
    if end[-4:] != _MAGIC or length > size:
        message = "it is truncated: its end is not that of a parquet file"
        raise ValueError(message)
    stream.seek(size - length)
    found: bytes = stream.read()
    return found


def sealed_json(content: Mapping[str, Any]) -> str:
    """Give a table as JSON, with its seal."""
    text = json.dumps({**content, SEAL: BLANK}, indent=1)
    return sealed(text.encode()).decode()


def read_sealed(file: Path) -> dict[str, Any]:
    """Read a table of JSON, and take its seal out if it has one.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no table of JSON, or not as it was written.
    """
    content = file.read_bytes()
    has_seal = is_sealed(content)
    try:
        found = json.loads(content.decode("utf-8"))
    except RecursionError as error:
        message = "it is nested too deep to be JSON of ours"
        raise ValueError(message) from error
    if not isinstance(found, dict):
        message = "it is no table"
        raise ValueError(message)  # noqa: TRY004 - whoever reads tells of all in one way
    if (found.pop(SEAL, None) is not None) != has_seal:
        raise ValueError(_BROKEN)
    return found
