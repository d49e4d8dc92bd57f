"""Code that a checkpoint brings along: run only where a case asks for it and a person said yes.

A case asks by its checkpoint's kind, `hub+code:<id>@<commit>` or `folder+code:<path>`. That alone
runs nothing, since cases come from repositories too: who starts the run names the case with
`--trust-remote-code CASE`. What is run is recorded, each file with its sha256.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from harness.errors import CheckpointError, Refused
from harness.models.families import is_native

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.case import Case
    from harness.models.checkpoints import Checkpoint

ASKS: Final = "+code"
"""What the kind of a checkpoint ends with whose own code is to be run."""

TRUSTED: Final = "HARNESS_TRUST_REMOTE_CODE"
"""The environment variable by which workers hear which cases are trusted, by their ids."""


def trust(case_ids: Iterable[str]) -> None:
    """Say yes to the code of these cases' checkpoints, in this process and its children."""
    if names := [name for name in case_ids if name]:
        os.environ[TRUSTED] = ",".join(names)


def require_trust(case: Case) -> None:
    """Go on if the case's code is trusted, and is what would run.

    Raises:
        Refused: nobody said so, or the family is loaded by transformers' own class, so that a row
            would name code that did not run.
    """
    if is_native(case.family):
        message = (
            f"{case.id} asks for its checkpoint's own code, and {case.family} is loaded by "
            f"transformers' own class; next: write its checkpoint's kind without {ASKS}"
        )
        raise Refused(message)
    if case.id not in os.environ.get(TRUSTED, "").split(","):
        message = (
            f"{case.id} asks for its checkpoint's own code to be run, and nobody trusts it; "
            f"next: read the code, then give --trust-remote-code {case.id}"
        )
        raise Refused(message)


@contextlib.contextmanager
def no_code_but_of(checkpoint: Checkpoint) -> Iterator[None]:
    """Keep transformers from fetching or reading a checkpoint's code inside, unless it is trusted.

    Whoever loads inside may ask for it: nnsight 0.7 has a model built that has no weights yet with
    `trust_remote_code=True`, which runs what `auto_map` names, also from another repository.

    Raises:
        Refused: code was asked for, inside.
    """
    from transformers import dynamic_module_utils  # noqa: PLC0415 - takes seconds

    def refuse(repository: object, file: str, *_: object, **__: object) -> str:
        message = (
            f"{checkpoint.path}: its own code ({file} of {repository}) was about to be run, and "
            f"nobody trusts it; next: take auto_map out of config.json, or name the kind with "
            f"{ASKS} and give --trust-remote-code"
        )
        raise Refused(message)

    with contextlib.ExitStack() as stack:
        if not checkpoint.code:
            stack.enter_context(
                mock.patch.object(dynamic_module_utils, "get_cached_module_file", refuse)
            )
        yield


def class_named(checkpoint: Checkpoint, auto_class: str) -> Any:
    """Give the class that a checkpoint's config.json names in `auto_map`, from its own files.

    Raises:
        CheckpointError: it names none.
    """
    from transformers.dynamic_module_utils import (  # noqa: PLC0415 - for who asks for it alone
        get_class_from_dynamic_module,
    )

    named = checkpoint.config.get("auto_map", {}).get(auto_class)
    if not isinstance(named, str) or "--" in named:  # `repo--module.Class` is another repository's
        message = (
            f"{checkpoint.path}: config.json names no {auto_class} of its own in auto_map, "
            f"but {named!r}; ask for it without {ASKS}"
        )
        raise CheckpointError(message)
    return get_class_from_dynamic_module(named, str(checkpoint.path), local_files_only=True)
