"""From what was found in a cell, and what its limitations say, to one verdict with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from harness.case import Cell, Limitation


def judged(
    cell: Cell, *, failing: Collection[str], first: str | None, woken: Sequence[str]
) -> tuple[str, str | None]:
    """Give the verdict on a cell that ran, and why.

    Args:
        cell: The cell, with the limitations that cover it.
        failing: Sites at which any prompt failed.
        first: The first of them that no `local` limitation explains, in forward order.
        woken: Sites that a limitation says never fire, and that did.
    """
    if woken:
        return "stale", f"a limitation says these never fire: {', '.join(woken)}"
    holding: list[Limitation] = []
    others: list[Limitation] = []
    for item in cell.limitations:
        here = item.outcome == "local" and any(item.names(site) for site in failing)
        (holding if here or item.outcome == "silent" else others).append(item)
    if first is not None:
        known = differs_as_known(cell, first)
        if known is not None:
            return "known", known.reason
        said = "; ".join(f"{item.outcome} {' '.join(item.sites)}" for item in others)
        though = f", though its limitations say: {said}" if said else ""
        return "fail", f"port differs from reference first at {first}{though}"
    if others:
        return "stale", f"agrees, but a limitation says it does not: {others[0].reason}"
    return ("known", "; ".join(item.reason for item in holding)) if holding else ("pass", None)


def differs_as_known(cell: Cell, site: str) -> Limitation | None:
    """Give the limitation that says that the cell differs first at this site."""
    return next(
        (item for item in cell.limitations if item.outcome == "differs" and item.names(site)), None
    )


def differs_by_itself(cell: Cell, site: str) -> bool:
    """Say whether a limitation says that this site, for itself, differs."""
    return any(item.outcome == "local" and item.names(site) for item in cell.limitations)


def judged_checks(cell: Cell, failing: Mapping[str, str]) -> tuple[str, str | None]:
    """Give the verdict on a cell whose probe ran, and why.

    Args:
        cell: The cell, with the limitations that cover it.
        failing: The first site at which each failing check failed, by the check.
    """
    holding = {check: known_check(cell, check, site) for check, site in failing.items()}
    new = [check for check, limitation in holding.items() if limitation is None]
    if new:
        said = "; ".join(f"{check}: first at {failing[check]}" for check in new)
        return "fail", f"{cell.probe} is not kept ({said})"
    spoken = [item for item in cell.limitations if item.probes]
    idle = [item for item in spoken if item not in holding.values()]
    if idle:
        return "stale", f"keeps it, but a limitation says it does not: {idle[0].reason}"
    reasons = dict.fromkeys(item.reason for item in holding.values() if item)
    return ("known", "; ".join(reasons)) if failing else ("pass", None)


def known_check(cell: Cell, check: str, site: str) -> Limitation | None:
    """Give the limitation that says that a probe's check fails first at this site."""
    return next(
        (
            item
            for item in cell.limitations
            if item.outcome == "differs" and item.speaks_of(check) and item.names(site)
        ),
        None,
    )


def judged_error(cell: Cell, error: Exception) -> tuple[str, str]:
    """Give the verdict on a cell that raised, and what it said."""
    told = str(error) if isinstance(error, HarnessError) else repr(error)
    for item in cell.limitations:
        if item.outcome == "raises" and item.words in told:
            return "known", f"{item.reason} ({told})"
    return "error", told
