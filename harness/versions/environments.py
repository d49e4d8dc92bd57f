"""Isolated environments: built once for each lock, kept, checked when used, listed and removed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock, Timeout
from packaging.utils import canonicalize_name

from harness.cache import folder_of
from harness.errors import EnvironmentUnavailable, RequirementError
from harness.record import read_sealed, write_sealed
from harness.versions.installer import pip_settings, run_uv
from harness.versions.interpreters import find_interpreter
from harness.versions.resolving import Lock, versions_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.versions.interpreters import Interpreter

ALL: Final = "all"
_SEAL: Final = "environment.json"
_SEALED: Final = {
    "lock": str,
    "python": str,
    "python_version": str,
    "requirements": list,
    "contents": list,
}
_KEY_LENGTH: Final = 16  # hex digits of sha256: 64 bits; the seal's lock is compared as well
_DONORS: Final = 3  # each costs a walk of 0.3 s, and the nearest has nearly all that is shared
_COMPILED: Final = "__pycache__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A folder with an interpreter and exactly the packages of a lock."""

    path: Path
    key: str
    python: Path
    python_version: str
    requirements: tuple[str, ...]
    lock: str

    @property
    def versions(self) -> dict[str, str]:
        """Give the version of each package, by its normalised name."""
        return versions_in(self.lock)

    @property
    def used(self) -> datetime:
        """Give when it was last asked for."""
        return datetime.fromtimestamp((self.path / _SEAL).stat().st_mtime, tz=timezone.utc)

    @property
    def own_bytes(self) -> int:
        """Give the bytes on disk that no other environment and not uv's cache shares with it."""
        files = (Path(folder, name) for folder, _, names in os.walk(self.path) for name in names)
        sizes = (file.lstat() for file in files)
        return sum(size.st_size for size in sizes if size.st_nlink == 1)


def _say_nothing(_: str) -> None:
    pass


def environment_for(lock: Lock, *, progress: Callable[[str], None] = _say_nothing) -> Environment:
    """Give the environment of a lock, building it the first time; `progress` hears what is done.

    It appears under its name only when it is whole and sealed. Two builders at once are kept
    apart by a lock; what a killed one leaves is never used, and goes with the next build.

    Raises:
        EnvironmentUnavailable: its Python is not there, or uv cannot install a package.
    """
    interpreter = find_interpreter(lock.python)
    key = key_of(lock.text, interpreter)
    final = folder_of("environments") / key
    with FileLock(final.with_name(f".{key}.lock")):
        wrong = _what_is_wrong(final, lock.text)
        if wrong:
            if final.exists():
                progress(f"{key}: {wrong}; it is built anew")
                _discard(final)
            _sweep(final.parent, held=key)
            progress(f"{key}: building {' '.join(lock.requirements)}")
            _build(final, lock, interpreter)
            progress(f"{key}: built")
    os.utime(final / _SEAL)
    return _opened(final)


def environments() -> list[Environment]:
    """Give the environments that are kept, the one used last first.

    Raises:
        EnvironmentUnavailable: the seal of one is damaged; says which, and how it is removed.
    """
    folder = folder_of("environments")
    return sorted(map(_opened, _kept(folder)), key=lambda each: each.used, reverse=True)


def remove(key: str) -> tuple[str, ...]:
    """Remove the environment whose key starts so, or all; give the keys of what is removed.

    Raises:
        RequirementError: no environment, or more than one, has a key that starts so.
    """
    folder = folder_of("environments")
    present = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    chosen = [name for name in present if key == ALL or (key and name.startswith(key))]
    if key != ALL and len(chosen) != 1:
        message = (
            f"{key!r} is the key of {len(chosen)} environments\n"
            f"  found:   {', '.join(present) or 'no environment'}\n"
            f"  next:    name one of these by its first letters, or {ALL}"
        )
        raise RequirementError(message)
    for name in chosen:
        with FileLock(folder / f".{name}.lock"):
            _discard(folder / name)
    _sweep(folder, held="")
    return tuple(chosen)


def key_of(lock: str, interpreter: Interpreter) -> str:
    """Give the name of an environment: of its lock, its Python and its platform."""
    return hashlib.sha256(f"{interpreter.tag}\n{lock}".encode()).hexdigest()[:_KEY_LENGTH]


def _build(final: Path, lock: Lock, interpreter: Interpreter) -> None:
    with _scratch_beside(final) as scratch:
        # Relocatable, since it is renamed when it is whole.
        _uv(["venv", "--relocatable", "--clear", "--python", str(interpreter.path), "."], scratch)
        (scratch / "lock.txt").write_text(lock.text)
        sync = ["pip", "sync", "lock.txt", "--link-mode", "hardlink"]
        sync += ["--python", str(_python_in(scratch))]
        _uv(sync, scratch)
        for donor in _donors(final.parent, interpreter, lock.versions):
            _link_bytecode(_packages_in(donor), _packages_in(scratch))
        # Compiled now, what is not there yet: a process that imports a stack uncompiled pays 15 to
        # 25 s, and each does where bytecode must not be written.
        _uv([*sync, "--compile-bytecode"], scratch)
        wrong = _lacks(scratch, lock.text)
        if wrong:
            message = f"{wrong} though uv installed it; next: clean uv's cache (uv cache clean)"
            raise EnvironmentUnavailable(message)
        seal = {
            "requirements": lock.requirements,
            "python": interpreter.tag,
            "python_version": interpreter.version,
            "lock": lock.text,
            "pins": {pin.requirement: pin.reason for pin in lock.pins},
            "built": datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
            "contents": _contents(scratch),
        }
        write_sealed(scratch / _SEAL, seal)
        scratch.rename(final)


def _donors(folder: Path, interpreter: Interpreter, versions: dict[str, str]) -> list[Path]:
    # The kept environments of this Python that share most packages with what is being built.
    def shared(seal: dict[str, Any]) -> int:
        return len(versions.items() & versions_in(seal["lock"]).items())

    same = []
    for path in _kept(folder):
        with suppress(EnvironmentUnavailable):  # one whose seal is damaged lends nothing
            same.append((path, _seal_of(path)))
    same = [(path, seal) for path, seal in same if seal["python"] == interpreter.tag]
    same.sort(key=lambda each: shared(each[1]), reverse=True)
    return [path for path, _ in same[:_DONORS]]


def _link_bytecode(donor: Path, packages: Path) -> None:
    # Compiling torch, transformers and what they need takes half a minute of processor time. A
    # source that is the very same file on disk, linked from uv's cache, has the same bytecode.
    for place, _, names in os.walk(donor):
        if Path(place).name != _COMPILED:
            continue
        target = packages / Path(place).relative_to(donor)
        for name in names:
            source = Path(place).with_name(f"{name.rsplit('.', 2)[0]}.py")
            try:
                if source.samefile(target.with_name(source.name)):
                    target.mkdir(exist_ok=True)
                    os.link(Path(place, name), target / name)
            except OSError:
                continue  # not in both, there already, or just removed: it is compiled instead


def _uv(arguments: list[str], folder: Path) -> None:
    done = run_uv(arguments, cwd=folder, settings=pip_settings())
    if done.returncode != 0:
        message = (
            f"an environment cannot be built: uv {' '.join(arguments[:2])} failed\n"
            f"  found:   {done.stderr.strip()}\n"
            "  next:    if uv names a package that has no file for this Python or must be "
            "compiled, name another version of it"
        )
        raise EnvironmentUnavailable(message)


def _what_is_wrong(final: Path, lock: str) -> str:
    if not final.exists():
        return "it is not there"
    try:
        return _what_is_not_as_sealed(final, lock)
    except EnvironmentUnavailable:
        return f"its seal {_SEAL} cannot be read"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"its packages cannot be read ({error!r})"


def _what_is_not_as_sealed(final: Path, lock: str) -> str:
    # Not every file is read, which would take longer than a build: what an accident or a stray
    # `pip install` does shows in the names at the top of site-packages and in the versions.
    seal = _seal_of(final)
    if seal["lock"] != lock:
        return "it is sealed for another lock"
    if not _python_in(final).exists():
        return "its Python is gone"
    if seal["contents"] != _contents(final):
        return "its packages are not those that were sealed"
    return _lacks(final, lock)


def _lacks(folder: Path, lock: str) -> str:
    expected = versions_in(lock)
    found = {
        str(canonicalize_name(each.name)): each.version
        for each in distributions(path=[str(_packages_in(folder))])
    }
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            return f"{name} is {found.get(name, 'missing')}, not {expected.get(name, 'absent')}"
    return ""


def _contents(folder: Path) -> list[str]:
    return sorted(path.name for path in _packages_in(folder).iterdir() if path.name != _COMPILED)


def _packages_in(folder: Path) -> Path:
    if os.name == "nt":
        return folder / "Lib" / "site-packages"
    for found in folder.glob("lib/python*/site-packages"):
        return found
    message = f"{folder} has no site-packages"
    raise FileNotFoundError(message)


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _kept(folder: Path) -> list[Path]:
    return [path for path in folder.glob("[!.]*") if (path / _SEAL).is_file()]


def _seal_of(folder: Path) -> dict[str, Any]:
    """Read what an environment was sealed with.

    Raises:
        EnvironmentUnavailable: it cannot be read, or is not as it was written.
    """
    file = folder / _SEAL
    try:
        seal: dict[str, Any] = read_sealed(file)
        wrong = [name for name, kind in _SEALED.items() if not isinstance(seal.get(name), kind)]
        versions_in("" if wrong else seal["lock"])
    except (OSError, ValueError, RequirementError) as error:
        raise EnvironmentUnavailable(_unreadable(file, error)) from error
    if wrong:
        raise EnvironmentUnavailable(_unreadable(file, f"no {', '.join(wrong)}"))
    return seal


def _unreadable(seal: Path, why: object) -> str:
    return f"{seal} cannot be read ({why}); next: harness env remove {seal.parent.name}"


def _opened(folder: Path) -> Environment:
    seal = _seal_of(folder)
    return Environment(
        path=folder,
        key=folder.name,
        python=_python_in(folder),
        python_version=seal["python_version"],
        requirements=tuple(seal["requirements"]),
        lock=seal["lock"],
    )


@contextmanager
def _scratch_beside(final: Path) -> Iterator[Path]:
    # A name of its own: the uv of a builder that was killed may still be writing in the last one.
    scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _discard(folder: Path) -> None:
    # Renamed first: one that is half removed is never found under its name.
    doomed = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    folder.rename(doomed / "old")
    shutil.rmtree(doomed, ignore_errors=True)


def _sweep(folder: Path, *, held: str) -> None:
    # What killed builders left: a scratch folder whose lock nobody holds, or the caller does.
    for scratch in folder.glob(".*-*"):
        key = scratch.name[1:].partition("-")[0]
        if key == held:
            shutil.rmtree(scratch, ignore_errors=True)
            continue
        try:
            with FileLock(folder / f".{key}.lock", blocking=False):
                shutil.rmtree(scratch, ignore_errors=True)
        except Timeout:
            continue
