"""Measures a question with the releases that a spec names, each in its own environment."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from harness.errors import EnvironmentUnavailable
from harness.record import finished_cells, read_sealed, write_sealed
from harness.surroundings import without_secrets
from harness.versions.environments import Environment, environment_for
from harness.versions.resolving import lock_for, parse_spec
from harness.versions.running import run_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CURRENT: Final = "current"
VERIFIED: Final = ("torch", "transformers", "transformer-lens")
"""The packages whose versions a worker checks before it measures, where its lock has them."""

_VARIABLES: Final = MappingProxyType({"PYTORCH_JIT": "0"})
"""A scripted function runs past a TorchFunctionMode, so past exact mode and past the capture of
scores and patterns: gpt_bigcode's softmax is one before transformers 4.53. As a plain function it
computes the same."""

_BOOTSTRAP: Final = Path(__file__).with_name("bootstrap.py")
_WORKER: Final = "harness.measure.worker"
_IMPORTS: Final = "imports.json"
_LAST_LINES: Final = 12
_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured: the words of its spec, and the environment that they came to."""

    spec: str
    environment: Environment

    @property
    def versions(self) -> dict[str, str]:
        """Give the version of each package that matters, by name."""
        found = self.environment.versions
        return {name: found[name] for name in VERIFIED if name in found}

    def __str__(self) -> str:
        """Print as `transformers 5.9.0, transformer-lens 3.9.0`."""
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())


def subject_of(
    spec: str,
    *,
    prefer: Subject | None = None,
    given: str = "",
    python: str | None = None,
    progress: Callable[[str], None],
) -> Subject:
    """Give the environment of a spec: `current`, or a list of requirements.

    Args:
        spec: The words of the user.
        prefer: The subject whose versions are kept for all packages that the spec does not name.
        given: Requirements that hold for every subject of a search, unless the spec names them.
        python: The version of Python, if not the running one.
        progress: Hears what is being built.

    Raises:
        RequirementError: the spec is no list of requirements, or no release meets it.
        EnvironmentUnavailable: the environment cannot be built.
    """
    if spec.strip() == CURRENT:
        return Subject(spec=CURRENT, environment=current_environment())
    requirements = list(parse_spec(spec))
    named = {canonicalize_name(each.name) for each in requirements}
    if given:
        requirements += [r for r in parse_spec(given) if canonicalize_name(r.name) not in named]
    lock = lock_for(requirements, prefer=prefer.environment.lock if prefer else None, python=python)
    return Subject(spec=spec, environment=environment_for(lock, progress=progress))


def current_environment() -> Environment:
    """Give the environment that this process runs in."""
    installed = {
        canonicalize_name(each.name): each.version for each in importlib.metadata.distributions()
    }
    lock = "".join(f"{name}=={version}\n" for name, version in sorted(installed.items()))
    return Environment(
        path=Path(sys.prefix),
        key=CURRENT,
        python=Path(sys.executable),
        python_version=sys.version.split()[0],
        requirements=(CURRENT,),
        lock=lock,
    )


def import_failures(subject: Subject) -> dict[str, str]:
    """Give what the packages say that do not import, by package. Kept beside the environment.

    Raises:
        EnvironmentUnavailable: the worker cannot even be started there.
    """
    kept = subject.environment.path / _IMPORTS
    keep = subject.environment.key != CURRENT
    if keep and kept.is_file():
        with suppress(ValueError):  # what is not as it was written is asked anew
            stored: dict[str, str] = read_sealed(kept)
            return stored
    with tempfile.TemporaryDirectory() as folder:
        expected = _expectation(subject, Path(folder))
        finished = run_in(
            subject.environment, _BOOTSTRAP, [_WORKER, "imports", str(expected)], cwd=Path(folder)
        )
        _check(finished.returncode, finished.stderr, subject)
        found: dict[str, str] = json.loads(finished.stdout.splitlines()[-1])
    if keep:
        write_sealed(kept, found)
    return found


def shrunk_in(
    subject: Subject, known: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, str]]:
    """Make the shrunk checkpoints of the architectures that only a subject's transformers knows.

    Gives, by type and variant, `path` and `digest` of the checkpoint, or the `reason` why there is
    none. What was found is kept beside the environment only as the checkpoints themselves are.

    Raises:
        EnvironmentUnavailable: the worker ended before it was done; says its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        expected = _expectation(subject, Path(folder))
        listed, made = Path(folder) / "known.json", Path(folder) / "made.json"
        listed.write_text(json.dumps(known))
        arguments = [_WORKER, "shrink", str(expected), str(listed), str(made)]
        finished = run_in(subject.environment, _BOOTSTRAP, arguments, cwd=Path(folder))
        _check(finished.returncode, finished.stderr, subject)
        rows = json.loads(made.read_text())
    return {(row.pop("family"), row.pop("variant")): row for row in rows}


def measure_in(
    subject: Subject,
    question: Path,
    run: Path,
    *,
    progress: Callable[[int], None],
) -> None:
    """Measure a question's cells in one worker process; `progress` hears how many are done.

    Raises:
        EnvironmentUnavailable: the worker ended before it was done; says its last words.
    """
    run = run.resolve()  # the worker runs in it, where a relative name would be another folder
    run.mkdir(parents=True, exist_ok=True)
    expected = _expectation(subject, run)
    arguments = [_WORKER, "measure", str(expected), str(question.resolve()), str(run)]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_SECONDS):
            progress(len(finished_cells(run)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        finished = run_in(subject.environment, _BOOTSTRAP, arguments, cwd=run, variables=_VARIABLES)
    finally:
        ended.set()
        watcher.join()
    (run / "worker.log").write_text(without_secrets(finished.stdout + finished.stderr))
    _check(finished.returncode, finished.stderr, subject)
    progress(len(finished_cells(run)))


def _expectation(subject: Subject, folder: Path) -> Path:
    file = folder / "expected.json"
    file.write_text(json.dumps(subject.versions))
    return file


def _check(returncode: int, stderr: str, subject: Subject) -> None:
    if returncode == 0:
        return
    last = _last_of(stderr.splitlines())
    message = (
        f"the worker ended with code {returncode} [{subject}]\n  found:   {last}\n"
        f"  next:    harness env remove {subject.environment.key}, then run again; "
        "if it ends so again, report these words"
    )
    raise EnvironmentUnavailable(message)


def _last_of(lines: Sequence[str]) -> str:
    return "\n           ".join(lines[-_LAST_LINES:]) or "(it said nothing)"
