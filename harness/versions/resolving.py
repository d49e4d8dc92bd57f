"""From the words of a user to a lock: one version of each package, found by uv."""

from __future__ import annotations

import csv
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from harness.errors import EnvironmentUnavailable, RequirementError
from harness.versions.installer import PipSettings, pip_settings, run_uv
from harness.versions.interpreters import Interpreter, find_interpreter
from harness.versions.releases import releases_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What a measuring worker imports besides what it measures; torch is held at the harness' own.
WORKER: Final = (
    "torch", "transformers", "pyarrow", "safetensors", "filelock", "packaging", "numpy", "psutil",
    "threadpoolctl", "xxhash",
)  # fmt: skip
ALLOWED: Final = "names with versions, separated by spaces: transformers==5.9.0 numpy>=1.26,<2"
# PEP 508 without what could lead elsewhere than to an index: no URL, path, marker or option.
_REQUIREMENT: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"  # a name
    r"(?:\[[A-Za-z0-9._,-]+\])?"  # extras
    r"(?:(?:~=|==|!=|<=|>=|<|>)[A-Za-z0-9.*+!_-]+(?:,(?=[~=!<>])|$))*"  # versions
)
_LOCKED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+")
_SPACES: Final = re.compile(r"\s*(~=|===?|!=|<=|>=|<|>|,)\s*")
_UNSATISFIABLE: Final = 1  # uv's exit code for a resolution that has no solution; 2 is any other
_ROUNDS: Final = 4  # of pins that change what is resolved, which changes the pins; two is usual
_PIN: Final = ("package", "versions", "requirement", "reason")
_SHOWN_RELEASES: Final = 3  # the newest, in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A requirement that a package does not state itself, and why it is made."""

    package: str
    versions: str
    requirement: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One version of each package, for one Python.

    `text` has a line `name==version` for each package; `requirements` is what was asked for,
    `pins` what was added to it from pins.csv, `python` the version of Python.
    """

    text: str
    requirements: tuple[str, ...]
    python: str
    pins: tuple[Pin, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """Give the version of each package, by its normalised name."""
        return versions_in(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A package whose version differs between two locks; None where a lock lacks it."""

    name: str
    old: str | None
    new: str | None


def parse_spec(spec: str) -> tuple[Requirement, ...]:
    """Give the requirements in a list such as `transformer-lens==3.9.0 transformers>=5.9,<6`.

    Raises:
        RequirementError: the list is empty, names a package twice, or holds what is not a
            requirement on packages of the index: an option, a path, a URL, a marker.
    """
    words = _SPACES.sub(r"\1", spec).split()
    if not words:
        message = f"{spec!r} names no package\n  allowed: {ALLOWED}\n  next:    name at least one"
        raise RequirementError(message)
    found: dict[str, Requirement] = {}
    for word in words:
        requirement = _requirement(word, spec)
        name = canonicalize_name(requirement.name)
        if name in found:
            message = (
                f"{spec!r} names {name} twice\n  allowed: each package once\n"
                f"  next:    join them by a comma, as in {name}>=1,<2"
            )
            raise RequirementError(message)
        found[name] = requirement
    return tuple(found.values())


def lock_for(
    requirements: Sequence[Requirement], *, prefer: str | None = None, python: str | None = None
) -> Lock:
    """Give the lock of requirements together with what a measuring worker needs.

    `prefer` is the text of a baseline's lock: every package but the required ones stays at its
    version there, unless what is required forces another.

    Raises:
        RequirementError: no release meets a requirement, or they contradict each other.
        EnvironmentUnavailable: no such Python, no index, or another build of torch.
    """
    named = {canonicalize_name(requirement.name) for requirement in requirements}
    asked = [str(requirement) for requirement in requirements]
    torch = Version(version_of("torch"))
    worker = [name for name in WORKER if name not in named | {"torch"}]
    if "torch" not in named:
        worker.append(f"torch=={torch}")
    interpreter = find_interpreter(python)
    settings = pip_settings()
    held = "".join(
        f"{name}=={version}\n"
        for name, version in versions_in(prefer or "").items()
        if name not in named
    )
    pins = _pins_of_exact(requirements)
    for _ in range(_ROUNDS):
        wanted = [*asked, *worker, *(pin.requirement for pin in pins)]
        try:
            text = resolve(wanted, interpreter, settings, prefer=held)
        except RequirementError as error:
            _refuse_missing_torch(wanted, interpreter, settings, torch, error)
            raise _explained(error, requirements, interpreter.version) from error
        _refuse_other_torch(text, torch)
        before, pins = pins, pins_for(named, versions_in(text))
        if pins == before:
            return Lock(text=text, requirements=tuple(asked), python=interpreter.version, pins=pins)
    message = (
        f"{' '.join(asked)}: the pins of pins.csv do not settle in {_ROUNDS} rounds\n"
        f"  found:   {', '.join(pin.requirement for pin in pins)}\n"
        "  next:    name an exact version of each of these packages"
    )
    raise RequirementError(message)


def resolve(
    requirements: Sequence[str], interpreter: Interpreter, settings: PipSettings, *, prefer: str
) -> str:
    """Give the text of a lock for these requirements and nothing else, by `uv pip compile`.

    Raises:
        RequirementError: there is no solution; the message holds uv's words.
        EnvironmentUnavailable: uv failed otherwise, as without a network; likewise.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, lock = Path(folder, "asked.in"), Path(folder, "lock.txt")
        asked.write_text("\n".join(requirements) + "\n")
        lock.write_text(prefer)  # uv keeps the versions of an output file that is there, if it can
        done = run_uv(
            [
                "pip", "compile", str(asked), "--output-file", str(lock), "--quiet",
                "--no-header", "--no-annotate", "--python", str(interpreter.path),
            ],
            cwd=Path(folder),
            settings=settings,
        )  # fmt: skip
        if done.returncode == 0:
            return lock.read_text()
    words = done.stderr.strip()
    if done.returncode == _UNSATISFIABLE:
        message = (
            f"{' '.join(requirements)}: cannot be had together\n  found:   {words}\n"
            "  next:    change or leave out one of the versions that it names"
        )
        raise RequirementError(message)
    message = (
        f"{' '.join(requirements)}: uv could not resolve this\n  found:   {words}\n"
        "  next:    see that pip's index can be reached from here, then run again"
    )
    raise EnvironmentUnavailable(message)


def versions_in(text: str) -> dict[str, str]:
    """Give the version of each package in a lock's text, by its normalised name.

    Raises:
        RequirementError: a line that is not `name==version`.
    """
    versions = {}
    for line in text.splitlines():
        name, _, version = line.partition("==")
        if not line.strip() or line.startswith("#"):
            continue
        # uv reads these lines too, to which an option would be one.
        if not _LOCKED.fullmatch(line.strip()):
            message = f"{line!r} is not a line of a lock; next: write name==version"
            raise RequirementError(message)
        versions[str(canonicalize_name(name.strip()))] = version.strip()
    return versions


def lock_difference(old: str, new: str) -> tuple[Change, ...]:
    """Give the packages whose versions differ between the texts of two locks, by name."""
    before, after = versions_in(old), versions_in(new)
    return tuple(
        Change(name=name, old=before.get(name), new=after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


@cache
def known_pins() -> tuple[Pin, ...]:
    """Give the rows of pins.csv: older stacks that need more than their metadata says."""
    return pins_in(Path(__file__).with_name("pins.csv"))


def pins_in(file: Path) -> tuple[Pin, ...]:
    """Give the rows of a file of pins.

    Raises:
        RequirementError: it cannot be read, or a row has no package, versions and requirement.
    """
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
        pins = tuple(Pin(**{name: row[name].strip() for name in _PIN}) for row in rows)
        for pin in pins:
            Requirement(f"{pin.package}{pin.versions}")
            Requirement(pin.requirement)
    except (OSError, ValueError, KeyError, AttributeError, csv.Error) as error:
        message = (
            f"{file} cannot be read ({error!r})\n"
            f"  allowed: rows of {', '.join(_PIN)}\n"
            "  next:    restore it: install the harness again"
        )
        raise RequirementError(message) from error
    return pins


def pins_for(named: Iterable[str], versions: dict[str, str]) -> tuple[Pin, ...]:
    """Give the pins that packages at these versions need.

    A pin on a package that the user named is left out: his word stands.
    """
    asked = set(named)
    return tuple(
        pin
        for pin in known_pins()
        if pin.package in versions
        and canonicalize_name(Requirement(pin.requirement).name) not in asked
        and Requirement(f"{pin.package}{pin.versions}").specifier.contains(
            versions[pin.package], prereleases=True
        )
    )


def _requirement(word: str, spec: str) -> Requirement:
    try:
        if _REQUIREMENT.fullmatch(word):
            return Requirement(word)
    except InvalidRequirement:
        pass
    message = (
        f"{word!r} is not a requirement (read in {spec!r})\n  allowed: {ALLOWED}\n"
        "  next:    write it so; options, paths, URLs and markers are not taken"
    )
    raise RequirementError(message)


def _pins_of_exact(requirements: Sequence[Requirement]) -> tuple[Pin, ...]:
    # Most specs name exact versions: their pins are known before anything is resolved.
    exact = {
        str(canonicalize_name(requirement.name)): specifier.version
        for requirement in requirements
        for specifier in requirement.specifier
        if specifier.operator == "==" and not specifier.version.endswith(".*")
    }
    return pins_for({canonicalize_name(each.name) for each in requirements}, exact)


def _refuse_other_torch(text: str, running: Version) -> None:
    found = Version(versions_in(text)["torch"])
    if found.local != running.local:
        message = (
            f"torch=={found} would be installed, which is another build of torch\n"
            f"  found:   build {found.local or 'without a tag, as on the public index'}\n"
            f"  allowed: build {running.local or 'without a tag'}, that of torch {running}, which "
            "runs the harness: another build has other kernels, and several GB\n"
            "  next:    name the folder or index of that build in PIP_FIND_LINKS or "
            "PIP_EXTRA_INDEX_URL, or another version of torch"
        )
        raise EnvironmentUnavailable(message)


def _refuse_missing_torch(
    requirements: Sequence[str],
    interpreter: Interpreter,
    settings: PipSettings,
    running: Version,
    error: RequirementError,
) -> None:
    # Were it resolved with torch of any build? Then the build is what is missing: say that.
    pinned = f"torch=={running}"
    if running.local is None or pinned not in requirements:
        return
    loose = [each if each != pinned else f"torch=={running.public}" for each in requirements]
    try:
        text = resolve(loose, interpreter, settings, prefer="")
        _refuse_other_torch(text, running)
    except RequirementError:
        return
    except EnvironmentUnavailable as refusal:
        raise refusal from error


def _explained(
    error: RequirementError, requirements: Sequence[Requirement], python: str
) -> RequirementError:
    # Name the requirement that no release meets, if that is the cause; uv's words stay.
    for requirement in requirements:
        releases = releases_of(requirement.name, pre=True, yanked=True, python=python)
        if not any(requirement.specifier.contains(each, prereleases=True) for each in releases):
            newest = ", ".join(map(str, releases[-_SHOWN_RELEASES:])) or "none"
            return RequirementError(
                f"{requirement}: there is no such release for Python {python}\n"
                f"  found:   the newest on the index are {newest}\n"
                f"  uv says: {str(error).split('found:', 1)[-1].split('next:', 1)[0].strip()}\n"
                "  next:    name a release that is on the index"
            )
    return error
