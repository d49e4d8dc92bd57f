"""A sweep in words: who works with whom, family × spec, for the terminal and as Markdown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, Any]

_ORDER: Final = ("fail", "error", "stale", "known", "unavailable", "pass")  # the worst first
_MARKS: Final = {"fail": "✗", "pass": "✓", "unavailable": "–"}
_SHORT: Final = {
    "bridge_compat": "compat",
    "bridge_compat_no_processing": "compat_no_proc",
    "hooked_no_processing": "no_proc",
}
_SHOWN: Final = 200  # characters of a reason

LEGEND: Final = (
    "✓ n: all n cells pass. ✗ site: the port differs from the reference, there first. –: the port "
    "refuses, or does not have it. compat is bridge_compat, no_proc is hooked_no_processing."
)


def table(rows: Sequence[Row]) -> Table:
    """Give the table of a sweep for a terminal."""
    specs, families, cells = _grid(rows)
    drawn = Table("family", *map(_heading, specs.values()), show_lines=True)
    for family in families:
        drawn.add_row(family, *("\n".join(cells.get((family, spec), ())) for spec in specs))
    return drawn


def markdown(rows: Sequence[Row]) -> str:
    """Give the table of a sweep, its legend and reasons as Markdown."""
    specs, families, cells = _grid(rows)
    head = ["family", *(_heading(row).replace("\n", "<br>") for row in specs.values())]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for family in families:
        texts = ("<br>".join(cells.get((family, spec), ())) for spec in specs)
        lines.append(f"| {family} | {' | '.join(texts)} |")
    reasons = [f"- {line}" for line in reasons_of(rows)]
    return "\n".join([*lines, "", LEGEND, "", *reasons, ""])


def reasons_of(rows: Sequence[Row]) -> list[str]:
    """Say once per spec and reason what was not measured, and why."""
    counts: Counter[tuple[str, str, str]] = Counter()
    families: dict[tuple[str, str, str], dict[str, None]] = {}
    for row in rows:
        if row["verdict"] in {"fail", "pass"} or not row["reason"]:
            continue
        key = (row["spec"], row["verdict"], row["reason"].splitlines()[0][:_SHOWN])
        counts[key] += 1
        families.setdefault(key, {})[row["family"] or ""] = None
    lines = []
    for key, n in counts.items():
        spec, verdict, reason = key
        which = ", ".join(filter(None, families[key]))
        of = f", {n} cells of {which}" if which else ""
        lines.append(f"{spec}: {verdict}{of}: {reason}")
    return lines


Cells = dict[tuple[str, str], list[str]]


def _grid(rows: Sequence[Row]) -> tuple[dict[str, Row], list[str], Cells]:
    """Give a row of each spec, the families, and the lines of each family with each spec."""
    specs: dict[str, Row] = {}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        specs.setdefault(row["spec"], row)
        if row["family"] is not None:
            groups.setdefault((row["family"], row["spec"]), []).append(row)
    families = sorted({family for family, _ in groups})
    cells = {key: _lines(group) for key, group in groups.items()}
    for spec, row in specs.items():
        if row["family"] is None:
            cells |= {(family, spec): [row["verdict"]] for family in families}
    return specs, families, cells


def _heading(row: Row) -> str:
    if row["transformers"] is None:
        return str(row["spec"]).replace(" ", "\n")
    lens = row["transformer_lens"]
    return f"{f'TL {lens}' if lens else 'no TL'}\nHF {row['transformers']}"


def _lines(rows: Sequence[Row]) -> list[str]:
    """Say what a family's cells came to: one line, or one per outcome, the worst first."""
    if all(row["verdict"] == "pass" for row in rows):
        return [f"✓ {len(rows)}"]
    worst: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row["variant"], row["loading_mode"])
        worst[key] = min(worst.get(key, row), row, key=_rank)
    found: dict[str, list[str]] = {}
    for (variant, mode), row in sorted(worst.items(), key=lambda each: _rank(each[1])):
        name = _SHORT.get(mode, mode)
        shown = name if variant == "default" else f"{variant}.{name}"
        found.setdefault(_outcome(row), []).append(shown)
    return [f"{outcome} {', '.join(names)}" for outcome, names in found.items()]


def _rank(row: Mapping[str, Any]) -> int:
    return _ORDER.index(row["verdict"])


def _outcome(row: Mapping[str, Any]) -> str:
    verdict = str(row["verdict"])
    site = str(row["first_site"] or "").removeprefix("blocks.")
    return " ".join(filter(None, (_MARKS.get(verdict, verdict), site)))
