"""Where numbers come from: versions, commit, machine, threads, seeds. Gathered once per run."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from harness.errors import UsageError
from harness.plugged import plugged_packages
from harness.surroundings import child_environment, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGES: Final = (
    "model-port-harness",
    "torch",
    "transformers",
    "transformer-lens",
    "safetensors",
    "tokenizers",
    "numpy",
    "pandas",
    "pyarrow",
    "hypothesis",
    "pytest",
)
"""Beside them stand the packages that bring plugged ports, and these where they are installed."""
OF_PORTS: Final = ("nnterp", "nnsight")


def gather() -> dict[str, Any]:
    """Give the environment of this process as plain JSON values; reads, changes nothing."""
    return {
        "packages": {name: _version(name) for name in PACKAGES} | _of_ports(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "devices": {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
        },
        "commit": _commit(),
        "argv": [without_secrets(word) for word in sys.argv[1:]],
        "started": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    }


def check_same_releases(run: Path, stored: Mapping[str, Any]) -> None:
    """Refuse to finish a run with other releases than it was begun with: it would be of neither.

    Raises:
        UsageError: they differ; says which.
    """
    here = gather()
    now, then = ({**each["packages"], "Python": each["python"]} for each in (here, stored))
    moved = [
        f"{name} {then.get(name)} → {now.get(name)}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    if moved:
        message = (
            f"{run} was begun with other releases: {', '.join(moved)}\n"
            "  next:    install those again, or measure it from its start"
        )
        raise UsageError(message)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _of_ports() -> dict[str, str]:
    """Give the version of each package that brings a plugged port or stands behind one of ours."""
    names = {*OF_PORTS, *plugged_packages()}.difference(PACKAGES)
    found = {name: _version(name) for name in sorted(names)}
    return {name: version for name, version in found.items() if version is not None}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Give the commit of the folder the run was started in, with `+dirty` where it has changes."""
    if shutil.which("git") is None:
        return None
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}+dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*arguments: str) -> str | None:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=False, env=child_environment()
    )
    return done.stdout.strip() if done.returncode == 0 else None
