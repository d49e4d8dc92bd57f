"""d. The passes over two activations against a copy of their memory: one thread, one process.

What is read of a pair is all that a row of float32 or exact mode needs of it: every number of a
comparison, both sums, the digest of both and the sketch of one. The tensors do not fit the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from harness.measure import kernels
from harness.threads import one_thread
from tests.bench.findings import (
    Clock,
    Finding,
    Usage,
    in_a_process,
    interleaved,
    median_ratio,
    tell,
)

VALUES, TIMES = 1 << 23, 9


def measure() -> Iterator[Finding]:
    """Measure in a process of its own."""
    for dtype, found in in_a_process("tests.bench.kernels")["found"].items():
        yield Finding(
            bench="d",
            name=f"comparison, digests and a sketch, {dtype}",
            value=100 * found["share"],
            unit="% of copy bandwidth",
            at_least=30,
            note=f"{found['gb']:.1f} GB/s",
        )


def main() -> None:
    """Compare and copy in turns."""
    one_thread()
    told = {}
    for dtype in (torch.float64, torch.float32):
        left = torch.randn(VALUES, dtype=dtype, generator=torch.Generator().manual_seed(0))
        right = left * (1 + 1e-6)
        n_bytes = left.nbytes + right.nbytes
        source, target = np.ones(n_bytes, np.uint8), np.zeros(n_bytes, np.uint8)

        def passes(left: torch.Tensor = left, right: torch.Tensor = right) -> Usage:
            clock = Clock()
            kernels.gap(kernels.flat(left), kernels.flat(right))
            kernels.print_of(left, seed=None)
            kernels.print_of(right, seed="bench")
            return clock.stop()

        def copy(source: np.ndarray = source, target: np.ndarray = target) -> Usage:
            clock = Clock()
            np.copyto(target, source)
            return clock.stop()

        found = interleaved({"passes": passes, "copy": copy}, times=TIMES)
        seconds = sorted(usage.wall for usage in found["passes"])[TIMES // 2]
        told[str(dtype).removeprefix("torch.")] = {
            "share": median_ratio(found["copy"], found["passes"], "wall"),
            "gb": n_bytes / seconds / 1e9,
        }
    tell(found=told)


if __name__ == "__main__":
    main()
