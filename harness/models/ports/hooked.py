"""TransformerLens' `HookedTransformer`, `HookedEncoder` and `HookedEncoderDecoder` (2.9 to 3.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import Unavailable

if TYPE_CHECKING:
    from harness.case import Cell
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner


def load(cell: Cell, checkpoint: Checkpoint) -> Runner:  # noqa: ARG001
    """Load it."""
    message = "not built yet"
    raise Unavailable(message)
