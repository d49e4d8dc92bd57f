"""A subprocess whose parent is gone ends itself: nobody would take its rows, and it holds a core.

A node that is lost does not tell its grandchildren.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

_EVERY_SECONDS: Final = 1.0
_ORPHANED: Final = 86
"""An exit code that neither pytest nor a signal gives; nobody is there to read it."""


def end_with(parent: int) -> None:
    """End this process once `parent` is no longer its parent."""
    threading.Thread(target=_watch, args=(parent,), name="orphan", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY_SECONDS)
    os._exit(_ORPHANED)
