"""The findings of planted faults in words: a score per kind and dtype, and every survivor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich.table import Table

from harness.case import DTYPES, EXACT
from harness.record import RED

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

COUNTED: Final = ("caught", "elsewhere", "survived")
"""The results that make the score. The others are no faults of numbers."""
LEFT_OUT: Final = {
    "idle": "not read by the port: at a harsh size it moves no bit either",
    "void": "nothing was changed: the dtype does not hold it, or the model is so already",
    "not green": "the cell is red without a fault",
    "raised": "the model broke off, which says nothing of a comparison",
}

AT_THE_SITE: Final = 0.95
"""The share of the faults caught in exact mode that must be named at the site stated."""


def is_good(findings: pd.DataFrame) -> bool:
    """Say whether in exact mode no fault survived, and enough were named at their site.

    Without exact mode nothing is judged; where it was asked and no fault could be planted, nothing
    was shown.
    """
    exact = findings[findings.dtype == EXACT]
    planted = exact[exact.result.isin(COUNTED)]
    survived = bool((planted.result == "survived").any())
    named = bool((planted.result == "caught").mean() >= AT_THE_SITE)  # False of none
    return exact.empty or (named and not survived)


def score_table(findings: pd.DataFrame) -> Table:
    """Give the table of kinds of faults by dtype: caught of planted, and how many elsewhere."""
    dtypes = [name for name in DTYPES if name in set(findings.dtype)]
    table = Table(title="faults caught, of those planted; in brackets at another site than stated")
    table.add_column("kind of fault")
    table.add_column("families", justify="right")
    for dtype in dtypes:
        table.add_column(dtype, justify="right")
    planted = findings[findings.result.isin(COUNTED)]
    for kind in dict.fromkeys(planted.kind):
        rows = planted[planted.kind == kind]
        table.add_row(
            kind,
            str(rows.family.nunique()),
            *(_share(rows[rows.dtype == dtype]) for dtype in dtypes),
        )
    table.add_section()
    table.add_row(
        "all",
        str(planted.family.nunique()),
        *(_share(planted[planted.dtype == dtype]) for dtype in dtypes),
    )
    return table


def _share(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "–"
    red = int((rows.result != "survived").sum())
    elsewhere = int((rows.result == "elsewhere").sum())
    return f"{red}/{len(rows)}" + (f" ({elsewhere})" if elsewhere else "")


def sums(findings: pd.DataFrame) -> Iterator[str]:
    """Give the sums: how many combinations, what was left out, the score per dtype."""
    planted = findings[findings.result.isin(COUNTED)]
    combinations = planted.drop_duplicates(["family", "kind", "fault", "amount", "site"])
    cells = planted.drop_duplicates(["family", "variant", "loading_mode", "dtype"])
    yield (
        f"{len(combinations)} combinations of fault, size, site and family; {len(planted)} planted "
        f"in {len(cells)} cells"
    )
    for result, words in LEFT_OUT.items():
        number = int((findings.result == result).sum())
        if number:
            yield f"left out: {number} {result} ({words})"
    for dtype in (name for name in DTYPES if name in set(planted.dtype)):
        rows = planted[planted.dtype == dtype]
        red = rows[rows.result != "survived"]
        right = red[red.result == "caught"]
        yield (
            f"{dtype}: caught {len(red)} of {len(rows)} ({len(red) / len(rows):.2%}), "
            f"of these {len(right) / max(len(red), 1):.1%} at the site stated"
        )


def not_green(findings: pd.DataFrame) -> Iterator[str]:
    """Give a line for what was not examined, being red without a fault: cells of one reason."""
    rows = findings[findings.result == "not green"]
    told = rows.assign(
        case=rows.family + "-" + rows.variant,
        asked=rows.probe.fillna("").astype(str),
        why=rows.words.str.split("\n").str[0].str.slice(0, _REASON),
    )
    for (case, asked, why), cells in told.groupby(["case", "asked", "why"], sort=False):
        modes, dtypes = (", ".join(cells[axis].unique()) for axis in ("loading_mode", "dtype"))
        probe = f" {asked}" if str(asked) else ""
        yield f"not examined: {case} {modes} ({dtypes}){probe}: {why}"


_REASON: Final = 90
"""Characters of a reason that are told."""

_TOLD: Final = ("survived", "elsewhere", "raised")


def survivors(findings: pd.DataFrame, *, dtype: str) -> Iterator[str]:
    """Give a line for each fault of a dtype that survived, was named elsewhere, or raised."""
    rows = findings[(findings.dtype == dtype) & findings.result.isin(_TOLD)]
    for _, row in rows.iterrows():
        where = (
            f"expected {row.expected}, found {row.found}"
            if isinstance(row.found, str)
            else row.words
        )
        yield (
            f"{row.result}: {row.family}-{row.variant} {row.loading_mode}: "
            f"{row.kind}: {row.fault} {row.amount} at {row.site} {where}".rstrip()
        )


CONFIDENCE: Final = 0.95


def rate(verdicts: pd.DataFrame) -> Table:
    """Give the table of clean verdicts by dtype: how many, how many red, how often at most."""
    verdicts = verdicts[verdicts.verdict != "unavailable"]
    table = Table(title="verdicts on clean cells")
    table.add_column("dtype")
    numbers = ("families", "environments", "cells", "verdicts", "red")
    for name in (*numbers, f"rate, {CONFIDENCE:.0%} upper bound"):
        table.add_column(name, justify="right")
    by_dtype = {name: verdicts[verdicts.dtype == name] for name in DTYPES}
    for dtype, rows in {**by_dtype, "all": verdicts}.items():
        if rows.empty:
            continue
        red = int(rows.verdict.isin(RED).sum())
        cells = rows.drop_duplicates(["family", "variant", "loading_mode", "dtype"])
        table.add_row(
            dtype,
            str(rows.family.nunique()),
            str(rows.environment.nunique()),
            str(len(cells)),
            str(len(rows)),
            str(red),
            f"{upper_bound(red, len(rows)):.2e}",
        )
    return table


def upper_bound(red: int, number: int) -> float:
    """Give the exact upper confidence bound of a rate (Clopper and Pearson, Biometrika 26, 1934).

    The largest rate at which so few red ones of a number would still be seen in 5 of 100 tries;
    found by halving, since no library of ours has the beta distribution.
    """
    if red == number:
        return 1.0
    low, high = red / number, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        seen = sum(
            math.exp(
                math.lgamma(number + 1)
                - math.lgamma(k + 1)
                - math.lgamma(number - k + 1)
                + k * math.log(middle)
                + (number - k) * math.log1p(-middle)
            )
            for k in range(red + 1)
        )
        low, high = (middle, high) if seen > 1 - CONFIDENCE else (low, middle)
    return high


def not_asked(verdicts: pd.DataFrame) -> Iterator[str]:
    """Give a line for each reason for which cells were not asked, with their number."""
    unasked = verdicts[verdicts.verdict == "unavailable"]
    for reason, rows in unasked.groupby("reason", sort=False):
        names = dict.fromkeys(f"{row.family} {row.loading_mode}" for _, row in rows.iterrows())
        yield f"not asked, {len(rows)} cells: {str(reason)[:160]} [{', '.join(names)}]"


def alarms(verdicts: pd.DataFrame) -> Iterator[str]:
    """Give a line for each clean cell that was red."""
    for _, row in verdicts[verdicts.verdict.isin(RED)].iterrows():
        yield (
            f"RED {row.family}-{row.variant} {row.loading_mode} {row['dtype']} seed {row.seed} "
            f"in {row.environment} on {row.threads} threads: {row.reason}"
        )
