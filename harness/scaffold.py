"""What `harness init` writes into a repository of its users: cases, workflows, pins."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

PINS: Final = "model-ports.txt"
_PINNED: Final = ("model-port-harness", "torch", "transformers", "transformer-lens")
_TEMPLATES: Final = {
    ".github/workflows/model-ports-nightly.yml": "nightly.yml",
    ".github/workflows/model-ports-upgrade-gate.yml": "upgrade-gate.yml",
    "cases/__init__.py": "cases_init.py.txt",
    "cases/my_models.py": "my_models.py.txt",
    "cases/test_ports_agree.py": "test_ports_agree.py.txt",
    "reports/.gitignore": "reports_gitignore.txt",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A file to be written: its path below the repository, and what it holds."""

    path: str
    text: str


def planned() -> tuple[Planned, ...]:
    """Give all files, with the releases that are installed here as pins."""
    templates = files("harness") / "templates"
    found = [
        Planned(path=path, text=(templates / name).read_text(encoding="utf-8"))
        for path, name in _TEMPLATES.items()
    ]
    return (*found, Planned(path=PINS, text=_pins()))


def write(folder: Path, *, force: bool) -> tuple[str, ...]:
    """Write the files below a folder, all of them or none; give their paths.

    Raises:
        UsageError: some are there already, and `force` does not allow to replace them; or one
            cannot be written, since a file stands where a folder is needed.
    """
    wanted = planned()
    there = [each.path for each in wanted if (folder / each.path).exists()]
    if there and not force:
        message = (
            f"{folder} has some of it already, and nothing was written\n"
            f"  found:   {', '.join(there)}\n"
            "  next:    give another folder, move these away, or replace them: harness init --force"
        )
        raise UsageError(message)
    try:
        for each in wanted:
            file = folder / each.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(each.text, encoding="utf-8")
    except OSError as error:
        message = f"{error.filename} cannot be written ({error.strerror}); next: make way for it"
        raise UsageError(message) from error
    return tuple(each.path for each in wanted)


def _pins() -> str:
    lines = [
        "# What the workflows install, and what the upgrade gate holds newer releases against.",
        "# After an upgrade that the gate lets pass, change the pin here.",
        # A build such as +cpu is of one index, and of the same source.
        *(f"{name}=={version(name).partition('+')[0]}" for name in _PINNED),
    ]
    return "\n".join([*lines, ""])
