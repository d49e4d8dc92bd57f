"""How pytest-xdist spreads cells over workers: all cells of one case go to one worker."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final

from xdist.scheduler import LoadScopeScheduling

from harness.case import DEVICES, DTYPES, LOADING_MODES, PROBES
from harness.plugged import plugged_names

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


_IDENTIFIED: Final = re.compile(r"::(?:\w+::)*\w+\[(?P<id>.+)\]$")


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

    A test that killed its worker is over. By itself xdist 3.8 gives it to the next worker, which
    dies too; and it waits for ever where a new worker gets a group that is done, or one test.
    """

    def __init__(self, config: pytest.Config, log: object, *, begun: Callable[[str], bool]) -> None:
        """Keep the order of cases; `begun` says of a test whether its cell has begun."""
        config.option.loadscopereorder = False
        self._begun = begun
        super().__init__(config, log)

    def remove_node(self, node: Any) -> str | None:  # noqa: ANN401 - xdist ships no annotations
        """Give the test at which a worker died, if it died of one; others do what it has left."""
        workload = self.assigned_work.pop(node)
        if self.collection is None:  # nobody began: those who collect by then are waited for
            self.registered_collections.pop(node, None)
        left = [test for unit in workload.values() for test, done in unit.items() if not done]
        crashed = left[0] if left and (self._begun(left[0]) or cell_of(left[0]) is None) else None
        for scope, unit in workload.items():
            rest = {test: done for test, done in unit.items() if not done and test != crashed}
            if rest:
                self.workqueue[scope] = rest
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: Any) -> None:  # noqa: ANN401 - as above
        if node.shutting_down or node not in self.registered_collections:
            return  # it takes no more, or still collects
        super()._reschedule(node)
        # A worker begins a test when it knows the next one, or that there is none.
        while self.workqueue and self._pending_of(self.assigned_work[node]) < 2:  # noqa: PLR2004
            self._assign_work_unit(node)
        if not self.workqueue and not node.shutting_down:
            node.shutdown()

    def _split_scope(self, nodeid: str) -> str:
        return case_of(nodeid)


def case_of(nodeid: str) -> str:
    """Give the case of a cell's test id, or the whole id of any other test."""
    found = _cell().search(nodeid)
    return found["case"] if found else nodeid


def cell_of(nodeid: str) -> str | None:
    """Give the cell of a test id; None for any other test."""
    found = _IDENTIFIED.search(nodeid)
    return found["id"] if found and _cell().search(nodeid) else None
