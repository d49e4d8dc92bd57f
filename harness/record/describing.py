"""What a run says of itself in run.json: its schema version, its releases, what it was asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.version import InvalidVersion, Version

from harness.case import BY_PROCESSING
from harness.errors import RunFolderError
from harness.record.columns import SCHEMA_VERSION
from harness.record.sealing import read_sealed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TEXT: Final = (str,)
_WHOLE: Final = (int,)
_TABLE: Final = (dict,)
_LIST: Final = (list,)
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("run_id", "started", "python"), _TEXT),
    **dict.fromkeys(("packages", "selection", "plan", "asked"), _TABLE),
    **dict.fromkeys(("shard", "merged", "executor"), _TABLE),
    "packages.*": (str, type(None)),
    "selection.*": _LIST,
    "selection.*.*": _TEXT,
    **{f"shard.{name}": _WHOLE for name in ("index", "count", "cells", "of")},
    "asked.cells": _WHOLE,
    "asked.keyword": _TEXT,
    "merged.of": _WHOLE,
    "merged.missing": _LIST,
    "executor.machines": _LIST,
}
"""What each entry of run.json must be, where it is there; `*` is any name."""
_INSIDE: Final = {
    "shard": ("index", "count", "cells", "of", "whole"),
    "merged": ("of", "missing"),
}
"""What an entry must have inside, where it is there."""

AGAIN: Final = "measure the run again"
"""What to do about a run.json that is damaged, of which there is no copy."""


def read_run(path: str | Path) -> dict[str, Any]:
    """Read run.json of a run.

    Raises:
        RunFolderError: the folder is not a run, of another schema version, or run.json is damaged.
    """
    file = Path(path) / "run.json"
    try:
        described = read_sealed(file)
    except (OSError, ValueError) as error:
        message = f"{path} is not a run: {error}; give a folder below reports/runs"
        raise RunFolderError(message) from error
    if described.get("schema_version") != SCHEMA_VERSION:
        found = described.get("schema_version")
        message = (
            f"{path}: schema_version={found}, but should be {SCHEMA_VERSION}; "
            "read it with the release of the harness that wrote it"
        )
        raise RunFolderError(message)
    check_kinds(file, described)
    return described


def require(path: Path, described: Mapping[str, Any], *names: str, then: str = AGAIN) -> None:
    """See that a description has what is asked of it.

    Raises:
        RunFolderError: it lacks some of it; says what.
    """
    if lacking := [name for name in names if name not in described]:
        message = f"{path} does not say its {', '.join(lacking)}; restore it from a copy, or {then}"
        raise RunFolderError(message)


def check_kinds(file: Path, described: Mapping[str, Any], *, then: str = AGAIN) -> None:
    """See that what a description says is text where it must be text, and so on.

    Raises:
        RunFolderError: something is not; says what.
    """
    for name, value in _entries(described):
        allowed = _KINDS.get(name)
        if allowed is not None and (not isinstance(value, allowed) or isinstance(value, bool)):
            message = (
                f"{file}: {name}={value!r:.80}, but should be {allowed[0].__name__}; "
                f"restore it from a copy, or {then}"
            )
            raise RunFolderError(message)
    for name, inside in _INSIDE.items():
        if name in described:
            require(file, described[name], *inside, then=then)


def _entries(described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give each entry that has a rule, with the rule's name."""
    for name, value in described.items():
        yield name, value
        if isinstance(value, dict):
            for key, each in value.items():
                yield (f"{name}.{key}" if f"{name}.*" not in _KINDS else f"{name}.*"), each
                if isinstance(each, list):
                    yield from ((f"{name}.*.*", one) for one in each)


def read_versions(path: str | Path) -> dict[str, Version]:
    """Read the versions of the packages that a run was measured with, to be compared as such.

    Raises:
        RunFolderError: the folder is not a run, or of another schema version.
    """
    packages = read_run(path).get("packages", {})
    try:
        return {name: Version(version) for name, version in packages.items() if version}
    except InvalidVersion as error:
        message = f"{path}: run.json names no version ({error}); measure the run again"
        raise RunFolderError(message) from error


def asked_relation(described: Mapping[str, Any]) -> str:
    """Give the relation that a run's comparisons were forced to; `processing` where none was.

    Args:
        described: What run.json says.
    """
    return str(described.get("plan", {}).get("relation", BY_PROCESSING))
