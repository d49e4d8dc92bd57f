"""One thread per process: cells run side by side instead."""

from __future__ import annotations

from typing import Final

import numpy as np  # noqa: F401 - its BLAS must be there to be held
import threadpoolctl
import torch

__all__ = ["one_thread"]

ONE: Final = 1


def one_thread() -> None:
    """Hold torch, and numpy's BLAS, to one thread from here on.

    Under load, two threads each were eight times slower than one, as they wait for each other, and
    the order of sums depends on their number.
    """
    torch.set_num_threads(ONE)
    threadpoolctl.threadpool_limits(limits=ONE, user_api="blas")
