"""How much memory there is for one measuring process, and what float64 weights would take of it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from safetensors import safe_open

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.models.checkpoints import Checkpoint

VARIABLE: Final = "HARNESS_MEMORY"
"""The environment variable that says how many GiB a measuring process may take for weights."""
_SHARE: Final = 0.8
"""Of what is free: activations, and what other processes come to need, have the rest."""
_GIB: Final = 2**30
_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_WORKERS: Final = "PYTEST_XDIST_WORKER_COUNT"


def memory_for_weights() -> int:
    """Give the bytes that this process may take: as it is told, or its share of what is free.

    Raises:
        UsageError: what it is told is no number.
    """
    if told := os.environ.get(VARIABLE):
        try:
            return int(float(told) * _GIB)
        except (ValueError, OverflowError) as error:  # no number; NaN; or infinity
            message = f"{VARIABLE}={told!r} is no number of GiB; write 8, or leave it out"
            raise UsageError(message) from error
    free = psutil.virtual_memory().available
    if _LIMIT.is_file() and (limit := _LIMIT.read_text().strip()).isdecimal():
        free = min(free, int(limit))
    return int(_SHARE * free / int(os.environ.get(_WORKERS, "1")))


def float64_bytes(checkpoint: Checkpoint) -> int:
    """Give how many bytes the saved tensors would take as float64, read off their headers."""
    values = 0
    for file in checkpoint.path.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                values += math.prod(tensors.get_slice(name).get_shape())
    return 8 * values
