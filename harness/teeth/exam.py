"""The whole bank over a matrix of cells, spread over processes; its findings as a table."""

from __future__ import annotations

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import pandas as pd
import torch

from harness.teeth.scoring import REFERENCE, Finding, examine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.case import Case

MODES: Final = (REFERENCE, "hf_sdpa", "bridge", "bridge_compat")
"""The ports whose modules can be reached: by another kernel, by the bridge, and processed."""


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    """Compute on so many threads, and on as many as before behind it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one process examines at a time: a case's ports in a dtype share its reference."""

    case: Case
    dtype: str
    modes: tuple[str, ...]
    kinds: frozenset[str] = frozenset()
    every: bool = False

    def __str__(self) -> str:
        """Print as `llama-gqa exact`."""
        return f"{self.case.id} {self.dtype}"

    def findings(self) -> list[Finding]:
        """Examine it, on one thread: the processes share the machine."""
        with on_threads(1):
            return list(
                examine(self.case, self.dtype, self.modes, kinds=self.kinds, every=self.every)
            )


class Asked(Protocol):
    """A part of an examination: it gives findings, each a dataclass."""

    def findings(self) -> list[Any]:
        """Examine it."""


def examined(parts: Sequence[Asked], *, jobs: int, done: Callable[[Asked], None]) -> pd.DataFrame:
    """Give all findings as a table with a row for each, in the order of the parts."""
    found: dict[Asked, list[Any]] = {}
    for part, findings in _spread(parts, jobs):
        found[part] = findings
        done(part)
    return pd.DataFrame([dataclasses.asdict(each) for part in parts for each in found[part]])


def _spread(parts: Sequence[Asked], jobs: int) -> Iterator[tuple[Asked, list[Any]]]:
    if jobs == 1:
        for part in parts:
            yield part, part.findings()
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(part.findings): part for part in parts}
        for future in as_completed(futures):
            yield futures[future], future.result()
