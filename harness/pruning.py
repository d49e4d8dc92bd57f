"""What lies in the cache, and what of it goes: the least recently used first, nothing in use.

All of it can be made again, at the price of time. What the hub's client and uv keep is theirs.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.cache import alone, place_of
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

SEALS: Final = {"checkpoints": "sha256.json", "environments": "environment.json"}
"""By kind, the file that a whole one has; it is touched whenever the thing is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A thing in the cache: its kind, its folder, the bytes that go with it, its last use.

    `words` say what it is: of an environment, what was asked for. Files that other things share,
    by hard links, are not counted.
    """

    kind: str
    path: Path
    words: str
    size: int
    used: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was removed, and the kinds that some process uses, of which nothing was."""

    removed: tuple[Kept, ...]
    busy: tuple[str, ...]


def kept() -> list[Kept]:
    """Give what lies in the cache, the least recently used first."""
    found = [
        _kept(kind, path)
        for kind in SEALS
        for path in place_of(kind).glob("[!.]*")
        if path.is_dir() and not path.is_symlink()
    ]
    return sorted(found, key=lambda each: (each.used, each.path))


def chosen(
    things: Sequence[Kept],
    *,
    now: dt.datetime,
    older_than: float | None = None,
    max_gb: float | None = None,
) -> list[Kept]:
    """Give what is to go: not used for so many days, then the oldest until the rest is so small.

    Raises:
        UsageError: neither bound is given, or one is negative.
    """
    if older_than is None and max_gb is None:
        message = "prune needs a bound; next: give --older-than DAYS, --max-gb N, or both"
        raise UsageError(message)
    for option, bound in (("--older-than", older_than), ("--max-gb", max_gb)):
        if bound is not None and not bound >= 0:
            message = f"{option} {bound:g} is less than nothing; next: give 0 or more"
            raise UsageError(message)
    oldest_first = sorted(things, key=lambda each: (each.used, each.path))
    going = [
        each
        for each in oldest_first
        if older_than is not None and now - each.used > dt.timedelta(days=older_than)
    ]
    rest = [each for each in oldest_first if each not in going]
    while max_gb is not None and rest and sum(each.size for each in rest) > max_gb * 1e9:
        going.append(rest.pop(0))
    return going


def prune(things: Sequence[Kept]) -> Pruned:
    """Remove these, and what killed makers left; of a kind that some process uses, nothing."""
    removed: list[Kept] = []
    busy: list[str] = []
    for kind in SEALS:
        if not place_of(kind).is_dir():
            continue
        with alone(kind) as is_alone:
            if not is_alone:
                busy.append(kind)
                continue
            for each in things:
                # Used since it was looked at: it stays.
                if each.kind == kind and each.path.is_dir() and _used(each.path, kind) <= each.used:
                    _remove(each.path)
                    removed.append(each)
            for left in place_of(kind).glob(".*-*"):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
    return Pruned(removed=tuple(removed), busy=tuple(busy))


def _kept(kind: str, path: Path) -> Kept:
    return Kept(
        kind=kind,
        path=path,
        words=_words(path / SEALS[kind]) or path.name,
        size=_own_bytes(path),
        used=_used(path, kind),
    )


def _words(seal: Path) -> str:
    try:
        return " ".join(json.loads(seal.read_text())["requirements"])
    except (OSError, ValueError, KeyError, TypeError):  # a checkpoint, or one that is not whole
        return ""


def _used(path: Path, kind: str) -> dt.datetime:
    seal = path / SEALS[kind]
    stamp = (seal if seal.is_file() else path).stat().st_mtime
    return dt.datetime.fromtimestamp(stamp, tz=dt.timezone.utc)


def _own_bytes(path: Path) -> int:
    files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    sizes = (file.lstat() for file in files)
    return sum(size.st_size for size in sizes if size.st_nlink == 1)


def _remove(path: Path) -> None:
    # Renamed first: one that is half removed is never found under its name.
    doomed = path.with_name(f".{path.name}-doomed")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
    path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
