"""What a page shows of each site of a cell: the worst of its prompts, by what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.page.packing import labels, numbers
from harness.report.shares import shares_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_ENDLESS: Final = 1e300
"""Stands for an infinite share, for which JSON has no word."""

_NUMBERS: Final = ("rel_l2", "port_error", "reference_error", "max_abs", "shift_abs")


def sites_of(deltas: pd.DataFrame, cell_ids: Sequence[str]) -> dict[str, Any]:
    """Give a row per cell and site, in forward order, cell after cell; `ends` says where each ends.

    `share` is what is judged, by what is allowed: rel_l2 (in exact mode, and where not one bit may
    differ) or error ratio, divided by its bound; above 1 it fails. Of several prompts, and of a
    probe's checks, the worst stands for all.

    Args:
        deltas: A run's deltas.
        cell_ids: The cells, in the page's order.
    """
    places = deltas.cell_id.astype(str).map({name: row for row, name in enumerate(cell_ids)})
    sites = deltas.site.astype("category")
    rows = deltas.assign(
        share=shares_of(deltas),
        place=places.astype("int64"),
        key=places.to_numpy() * len(sites.cat.categories) + sites.cat.codes.to_numpy(),
        order=np.arange(len(deltas)),
    )
    # Sites stand in forward order; those of a cell that only a later prompt has stand behind.
    first = rows.drop_duplicates("key").set_index("key").order
    worst = rows.sort_values("share", kind="stable").drop_duplicates("key", keep="last")
    worst = worst.assign(order=worst.key.map(first)).sort_values(["place", "order"])
    worst = worst.assign(failed=worst.key.isin(rows.key[rows.verdict == "fail"]))
    counted = worst.groupby("place").size().reindex(range(len(cell_ids)), fill_value=0)
    return {
        "ends": counted.cumsum().tolist(),
        "site": labels(worst.site.astype(str)),
        "relation": labels(worst.relation.astype(str)),
        "check": labels(worst.check.astype(object)),
        "share": [min(float(f"{share:.3g}"), _ENDLESS) for share in worst.share],
        "failed": worst.failed.astype(int).tolist(),
        "passed_through": worst.passed_through.astype(int).tolist(),
        **{name: numbers(worst[name].tolist()) for name in _NUMBERS},
    }
