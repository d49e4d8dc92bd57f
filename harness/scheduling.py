"""How pytest-xdist spreads cells over workers: all cells of one case go to one worker."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

from harness.case import DEVICES, DTYPES, LOADING_MODES, PROBES
from harness.plugged import plugged_names

if TYPE_CHECKING:
    import pytest


@functools.cache
def _cell() -> re.Pattern[str]:
    modes = "|".join((*LOADING_MODES, *map(re.escape, plugged_names())))
    return re.compile(
        rf"\[(?P<case>.+)\.(?:{modes})\.(?:{'|'.join(DTYPES)})"
        rf"(?:\.(?:{'|'.join(DEVICES)}))?(?:\.(?:{'|'.join(PROBES)}))?\]$"
    )


class ByCase(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no annotations
    """Groups the cells of a case; every other test stands alone.

    Cases stay in the order in which they were collected, large checkpoints first: by itself xdist
    would begin with the cases that have most cells.
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        """Keep the order of cases."""
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return case_of(nodeid)


def case_of(nodeid: str) -> str:
    """Give the case of a cell's test id, or the whole id of any other test."""
    found = _cell().search(nodeid)
    return found["case"] if found else nodeid
