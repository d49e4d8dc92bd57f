"""Which releases are newer than pins: what a gate is to be asked of before somebody upgrades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from harness.errors import RequirementError
from harness.versions.releases import releases_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

WATCHED: Final = ("transformers", "transformer-lens", "torch")
"""The packages whose releases may change numbers."""


def pins_of(file: Path, watched: Sequence[str] = WATCHED) -> dict[str, Version]:
    """Read the versions that a file of pins gives the watched packages, in their order.

    Raises:
        RequirementError: it cannot be read, has a line that is no requirement, or pins none.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        parsed = [Requirement(words) for line in lines if (words := line.partition("#")[0].strip())]
    except (OSError, InvalidRequirement) as error:
        message = f"{file} is no file of pins ({error}); next: lines such as transformers==5.23.0"
        raise RequirementError(message) from error
    exact = {
        each.name: Version(spec.version)
        for each in parsed
        for spec in each.specifier
        if spec.operator == "==" and "*" not in spec.version
    }
    found = {name: exact[name] for name in watched if name in exact}
    if not found:
        message = (
            f"{file} pins none of {', '.join(watched)}, so that nothing is newer than it\n"
            "  next:    pin one of them by ==, or name another file: --pins FILE"
        )
        raise RequirementError(message)
    return found


def newest(pins: Mapping[str, Version]) -> dict[str, Version]:
    """Give, of the packages that have a release newer than their pin, the newest one.

    Raises:
        RequirementError: no index knows a package.
        EnvironmentUnavailable: an index cannot be read.
    """
    found = {}
    for name, pinned in pins.items():
        # A build such as 2.13.0+cpu is the release 2.13.0.
        releases = {Version(each.public) for each in releases_of(name)}
        newer = [each for each in releases if each > Version(pinned.public)]
        if newer:
            found[name] = max(newer)
    return found


def gates_for(pins: Mapping[str, Version], newer: Mapping[str, Version]) -> list[dict[str, str]]:
    """Give the gates to ask: one per newer package, and where there are several one of all.

    Each side names all watched packages, so that they differ in what is newer alone.
    """
    steps: list[Mapping[str, Version]] = [{name: newer[name]} for name in newer]
    steps += [newer] if len(newer) > 1 else []
    return [{"baseline": _spec(pins), "candidate": _spec({**pins, **step})} for step in steps]


def _spec(versions: Mapping[str, Version]) -> str:
    return " ".join(f"{name}=={version.public}" for name, version in versions.items())
