"""Which Python an environment is built with: the running one, or another that is installed."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uv import find_uv_bin

from harness.errors import EnvironmentUnavailable, RequirementError
from harness.surroundings import child_environment

_VERSION: Final = re.compile(r"\d+\.\d+(\.\d+)?")
_ASK: Final = (
    "import json, platform, sys, sysconfig;"
    "print(json.dumps([sys.implementation.name, platform.python_version(),"
    " sysconfig.get_platform()]))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python that is installed."""

    path: Path
    implementation: str
    version: str
    platform: str

    @property
    def tag(self) -> str:
        """Give what tells environments of the same lock apart: cpython-3.11.7-linux-x86_64."""
        return f"{self.implementation}-{self.version}-{self.platform}"


def find_interpreter(python: str | None) -> Interpreter:
    """Give the running Python, or the installed one of a version such as 3.12, or of a path.

    Raises:
        RequirementError: neither a version nor the path of an interpreter.
        EnvironmentUnavailable: no such Python is installed; none is ever downloaded.
    """
    if python is None or python == platform.python_version():
        return Interpreter(
            path=Path(sys.executable),
            implementation=sys.implementation.name,
            version=platform.python_version(),
            platform=sysconfig.get_platform(),
        )
    if _VERSION.fullmatch(python):
        return _asked(_path_of(python))
    if Path(python).is_file():
        return _asked(Path(python).absolute())
    message = (
        f"{python!r} is not a Python\n"
        "  allowed: a version such as 3.12, or the path of an interpreter\n"
        "  next:    name one of these"
    )
    raise RequirementError(message)


def _path_of(version: str) -> Path:
    with tempfile.TemporaryDirectory() as empty:
        found = subprocess.run(
            [find_uv_bin(), "python", "find", version, "--no-python-downloads", "--no-project"],
            capture_output=True,
            text=True,
            check=False,
            cwd=empty,
            env={**child_environment(), "PATH": _search_path(), "VIRTUAL_ENV": ""},
        )
    if found.returncode != 0:
        message = (
            f"no Python {version} on this machine\n  found:   {found.stderr.strip()}\n"
            f"  next:    install Python {version}, or ask for {platform.python_version()}, "
            "which runs the harness"
        )
        raise EnvironmentUnavailable(message)
    return Path(found.stdout.strip())


def _search_path() -> str:
    # pyenv's shims are scripts that fail unless their version is switched on, and uv stops at the
    # first that does; the interpreters themselves lie in versions/*/bin.
    folders = [
        folder for folder in os.environ.get("PATH", "").split(os.pathsep) if "shims" not in folder
    ]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return os.pathsep.join([*folders, *map(str, sorted(root.glob("versions/3.*/bin")))])


def _asked(path: Path) -> Interpreter:
    try:
        answer = subprocess.run(
            [path, "-I", "-c", _ASK],
            capture_output=True,
            text=True,
            check=True,
            env=child_environment(),
        ).stdout
        implementation, version, machine = json.loads(answer)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        message = f"{path} is not a Python that runs ({error}); next: name another"
        raise EnvironmentUnavailable(message) from error
    return Interpreter(path=path, implementation=implementation, version=version, platform=machine)
