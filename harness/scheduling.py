"""How pytest-xdist spreads cells over workers: all cells of one case go to one worker."""

from __future__ import annotations

import re
from typing import Final

from xdist.scheduler import LoadScopeScheduling

from harness.case import DEVICES, DTYPES, LOADING_MODES

_CELL: Final = re.compile(
    rf"\[(?P<case>.+)\.(?:{'|'.join(LOADING_MODES)})\.(?:{'|'.join(DTYPES)})"
    rf"(?:\.(?:{'|'.join(DEVICES)}))?\]$"
)


class ByCase(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no annotations
    """Groups the cells of a case; every other test stands alone."""

    def _split_scope(self, nodeid: str) -> str:
        return case_of(nodeid)


def case_of(nodeid: str) -> str:
    """Give the case of a cell's test id, or the whole id of any other test."""
    found = _CELL.search(nodeid)
    return found["case"] if found else nodeid
