"""Ports that other packages bring: their entry points, read here and loaded by `harness.models`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from harness.case import BUILT_IN_PORTS, LOADING_MODES
from harness.errors import SelectionError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "harness.ports"
PAGE: Final = "docs/ports.md"

# A name stands in ids of cells, whose parts dots keep apart, and in names of files.
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluggedPort:
    """What a package says of a port: its name, which is its loading mode too, and who brings it."""

    name: str
    entry: EntryPoint

    @property
    def package(self) -> str:
        """Give the name and version of the package."""
        return f"{self.distribution} {self.version}"

    @property
    def distribution(self) -> str:
        """Give the name of the package."""
        return self.entry.dist.name if self.entry.dist else "a package without metadata"

    @property
    def version(self) -> str:
        """Give the version of the package."""
        return self.entry.dist.version if self.entry.dist else ""

    def __str__(self) -> str:
        """Print as `plain_gpt2 = plain_gpt2:load (plain-gpt2 0.1)`."""
        return f"{self.name} = {self.entry.value} ({self.package})"


def plugged_names() -> tuple[str, ...]:
    """Give the names that installed packages bring, whether they can be asked for or not."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def plugged_packages() -> tuple[str, ...]:
    """Give the names of the packages that bring them."""
    return tuple(sorted({entry.dist.name for entry in entry_points(group=GROUP) if entry.dist}))


def plugged_ports() -> dict[str, PluggedPort]:
    """Give the ports that installed packages bring, by name; none is imported.

    Raises:
        SelectionError: a name that cannot be asked for: it means something else already, two
            packages have it, or no id can hold it.
    """
    found: dict[str, PluggedPort] = {}
    for entry in entry_points(group=GROUP):
        port = PluggedPort(name=entry.name, entry=entry)
        if fault := _fault_of(port, found.get(port.name)):
            message = (
                f"{port.package} brings a port that cannot be asked for\n"
                f"  found:   {port.name} = {entry.value} in its entry points {GROUP!r}\n"
                f"  allowed: {fault}\n"
                f"  next:    rename it in {port.distribution}, or pip uninstall {port.distribution}"
            )
            raise SelectionError(message)
        found[port.name] = port
    return found


def _fault_of(port: PluggedPort, other: PluggedPort | None) -> str:
    if port.name in LOADING_MODES or port.name in BUILT_IN_PORTS:
        return f"a name of its own; {port.name!r} is built in"
    if other is not None:
        return f"one package for each name; {other.package} has {port.name!r} too"
    if not _NAME.fullmatch(port.name):
        return f"a name like plain_gpt2 ({_NAME.pattern}), since it stands in names of files"
    return ""
