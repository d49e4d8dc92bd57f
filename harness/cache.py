"""Where the harness keeps what it can make again: checkpoints, environments."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_VARIABLE: Final = "HARNESS_CACHE"
_USED: Final = ".in-use"

_held: dict[str, tuple[Path, int]] = {}
"""By kind, the folder that this process uses and the descriptor that says so to others. Nobody
closes it: the kernel does when the process ends, however it ends."""


def folder_of(kind: str) -> Path:
    """Give the folder for one kind of thing, made: in $HARNESS_CACHE or in the user's cache.

    From then on this process uses it, and nothing in it is pruned until the process ends.
    """
    folder = place_of(kind)
    folder.mkdir(parents=True, exist_ok=True)
    if kind not in _held or _held[kind][0] != folder:
        stop_using(kind)
        lock = os.open(folder / _USED, os.O_CREAT | os.O_RDWR, 0o666)
        fcntl.flock(lock, fcntl.LOCK_SH)  # waits for a pruning to end; many may hold it at once
        _held[kind] = folder, lock
    return folder


def place_of(kind: str) -> Path:
    """Name the folder for one kind of thing, be it there or not."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        root = Path(chosen)
    else:
        from platformdirs import user_cache_path  # noqa: PLC0415 - not in a measuring worker

        root = user_cache_path("model-port-harness")
    return (root / kind).absolute()


def stop_using(kind: str) -> None:
    """Say that this process needs nothing of a kind any more."""
    if kind in _held:
        os.close(_held.pop(kind)[1])


@contextlib.contextmanager
def alone(kind: str) -> Iterator[bool]:
    """Say whether no process uses a kind; if none does, none begins to before the end."""
    with (place_of(kind) / _USED).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
