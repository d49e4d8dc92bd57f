"""What to say where a disk is full or a folder may not be written."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_ROOM: Final = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in your quota",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: "give a folder that can be written",
    errno.EACCES: "give a folder that you may write",
    errno.EPERM: "give a folder that you may write",
}


def is_of_storage(error: OSError) -> bool:
    """Say whether an error is the disk's or the folder's, not the program's."""
    return error.errno in _ROOM


def cannot_write(folder: Path | str, error: OSError, *, then: str = "ask again") -> str:
    """Say what cannot be written, why, and what to do next."""
    room = _ROOM.get(error.errno or 0, "see what is wrong with it")
    found = error.strerror or str(error)
    file = f" ({error.filename})" if error.filename else ""
    return (
        f"{folder} cannot be written\n"
        f"  found:   {found}{file}\n"
        "  allowed: what is written appears whole or not at all, so that nothing is half there\n"
        f"  next:    {room}, then {then}"
    )
