"""The bank: operators that make faults of a loaded model, one file per part of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.teeth.operators import (
    attention,
    blocks,
    norms,
    parameters,
    positions,
    reading,
    sequences,
    tokens,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.teeth.body import Body
    from harness.teeth.fault import Fault

OPERATORS: Final = (
    *parameters.OPERATORS,
    *norms.OPERATORS,
    *attention.OPERATORS,
    *positions.OPERATORS,
    *blocks.OPERATORS,
    *reading.OPERATORS,
    *sequences.OPERATORS,
    *tokens.OPERATORS,
)


def faults_of(body: Body) -> Iterator[Fault]:
    """Give every fault of the bank that a loaded model can have."""
    for operator in OPERATORS:
        yield from operator(body)
