"""Where the harness keeps what it can make again: checkpoints, environments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CACHE_VARIABLE: Final = "HARNESS_CACHE"


def folder_of(kind: str) -> Path:
    """Give the folder for one kind of thing, made: in $HARNESS_CACHE or in the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        root = Path(chosen)
    else:
        from platformdirs import user_cache_path  # noqa: PLC0415 - not in a measuring worker

        root = user_cache_path("model-port-harness")
    folder = (root / kind).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
