"""A script, run in an isolated environment: nothing of the surroundings can be imported there."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from harness.errors import EnvironmentUnavailable
from harness.surroundings import child_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.versions.environments import Environment

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
# No hub, no telemetry, one thread: two were eight times slower than one beside other workers.
_QUIET: Final = MappingProxyType(
    {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "WANDB_DISABLED": "true",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONNOUSERSITE": "1",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a script ended, and what it said; `returncode` is negative where a signal ended it."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float


def run_in(
    environment: Environment,
    script: Path,
    arguments: Sequence[str],
    *,
    cwd: Path,
    timeout: float | None = None,
    variables: Mapping[str, str] = _NONE,
) -> Finished:
    """Run a script to its end with an environment's Python, isolated (-I), without a shell.

    `variables` are set besides those of the surroundings, as PYTORCH_JIT=0; `timeout` is in
    seconds, None waits for ever. Python itself ignores its own variables (PYTHONPATH …) there, and
    no secret is handed on: a worker is offline, and its checkpoints were fetched before.

    Raises:
        EnvironmentUnavailable: it does not end in time, or cannot be started.
    """
    kept = {
        name: value
        for name, value in child_environment().items()
        if not name.startswith("PYTHON") and name not in {"VIRTUAL_ENV", "CONDA_PREFIX"}
    }
    command = [str(environment.python), "-I", "-X", "utf8", str(script), *arguments]
    begin = time.monotonic()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            cwd=cwd,
            timeout=timeout,
            env={**kept, **_QUIET, **variables},
        )
    except subprocess.TimeoutExpired as error:
        message = (
            f"{script.name} did not end in {timeout} s [{environment.key}]; "
            "next: ask for fewer cells, or allow more time"
        )
        raise EnvironmentUnavailable(message) from error
    except OSError as error:
        message = (
            f"{script.name} cannot be started [{environment.key}]: {error}; "
            f"next: harness env remove {environment.key}, then run again"
        )
        raise EnvironmentUnavailable(message) from error
    return Finished(
        returncode=done.returncode,
        stdout=done.stdout,
        stderr=done.stderr,
        seconds=time.monotonic() - begin,
    )
