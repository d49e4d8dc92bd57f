"""A gate or a run as the summary of a job: what to do first, then what differs, on one screen."""

from __future__ import annotations

from collections import Counter
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from harness.judge.controls import uncaught
from harness.record import RED, VERDICTS, read_cells, read_controls, read_run, require
from harness.report.gate_rows import gate_json
from harness.report.markdown import named, quoted, table
from harness.report.marks import spec_in_shell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

Row = dict[str, Any]

MOST_ROWS: Final = 12
"""Rows of the table: with all else they fit on one screen."""

_FIRST: Final = {
    "reference_moved": (
        "The reference computes something else. Read what {packages} says of {family}; if it is "
        "meant, accept a new baseline, else hold the bump back and file it."
    ),
    "port_moved": (
        "The port no longer computes what its reference does. Hold the bump of {packages} back for "
        "{family}, or find the release that did it with `harness bisect`."
    ),
    "both_moved": (
        "Port and reference moved. Read what {packages} says of {family}, the reference first."
    ),
    "broke": "It ran before and does not now. Read its reason below; hold {packages} back.",
    "vanished": "It was measured before and is not now. See why before anything is accepted.",
    "tokens_moved": "The same text gives other tokens. All numbers behind it are of other prompts.",
    "appeared": "It is new, and not right. Nothing that worked got worse by it.",
}


def gate_markdown(folder: Path) -> str:
    """Give the summary of a gate, from its gate.json.

    Raises:
        RunFolderError: there is none, or it is of another schema version.
    """
    gate = gate_json(folder)
    worse = sorted((cell for cell in gate["cells"] if cell["worse"]), key=_loudness)
    packages = ", ".join(
        f"{each['name']} {each['old'] or '(absent)'} → {each['new'] or '(absent)'}"
        for each in gate["packages"]
    )
    title = f"{gate['baseline']} → {gate['candidate']}"
    lines = [f"### {_MARKS[gate['overall']]} {title}", ""]
    lines += [*_do_first(gate, worse), ""] if worse or gate["overall"] == "not asked" else []
    lines += _worse_table(worse)
    counted = ", ".join(f"{number} {verdict}" for verdict, number in gate["counts"].items())
    lines += ["", f"{counted} · {packages or 'no package differs'}"]
    lines += _reasons(cell for cell in gate["cells"] if cell["verdict"] == "unmeasured")
    return "\n".join([*lines, ""])


_MARKS: Final = {
    "worse": "✗ worse:",
    "not worse": "✓ nothing is worse:",
    "not asked": "✗ nothing could be compared:",
}


def _loudness(cell: Row) -> tuple[bool, bool, int]:
    """Order cells: meaning before rounding, comparisons before probes, by verdict."""
    known = list(_FIRST)
    place = known.index(cell["verdict"]) if cell["verdict"] in known else len(known)
    return cell["nature"] == "rounding", cell["probe"] is not None, place


def _do_first(gate: Row, worse: Sequence[Row]) -> list[str]:
    if not worse:
        return ["**First:** see below why no cell has numbers on both sides; then gate again."]
    first = worse[0]
    said = _FIRST.get(first["verdict"], "Read its reason below.").format(
        packages=", ".join(first["moved_by"]) or "the packages that differ",
        family=first["family"],
    )
    axes = {"family": "family", "variant": "variant", "mode": "loading_mode", "dtype": "dtype"}
    asked = [f"--{option} {quote(first[name])}" for option, name in axes.items()]
    asked += [f"--probe {quote(first['probe'])}"] if first["probe"] else []
    where = f" first at {named(first['first_site'])}" if first["first_site"] else ""
    return [
        f"**First:** {named(first['cell_id'])}{where}. {said}",
        "",
        f"    harness gate --baseline {spec_in_shell(gate['baseline'])} "
        f"--candidate {spec_in_shell(gate['candidate'])} " + " ".join(asked),
    ]


def _worse_table(worse: Sequence[Row]) -> list[str]:
    if not worse:
        return []
    head = ("cell", "verdict", "who, how", "first site", "drift", "error old → new", "moved by")
    rows = [
        (
            named(cell["cell_id"]),
            cell["verdict"],
            " · ".join(filter(None, (cell["attribution"], cell["nature"]))),
            named(cell["first_site"]) if cell["first_site"] else "",
            _short(cell["drift"]),
            f"{_short(cell['error_ratio']['old'])} → {_short(cell['error_ratio']['new'])}",
            ", ".join(cell["moved_by"]),
        )
        for cell in worse[:MOST_ROWS]
    ]
    more = len(worse) - MOST_ROWS
    lines = table(head, rows)
    return [*lines, "", f"… and {more} more that are worse: gate.md has all"] if more > 0 else lines


def _short(value: float | str | None) -> str:
    return "" if value is None else f"{float(value):.2g}"


def run_markdown(run: Path) -> str:
    """Give the summary of a run.

    Raises:
        RunFolderError: the folder is no run, or no cell of it was measured.
    """
    described, cells = read_run(run), read_cells(run)
    require(run, described, "run_id")
    controls = read_controls(run)
    red = cells[cells.verdict.isin(RED)]
    alarms = uncaught(cells, controls)
    counts = cells.verdict.value_counts()
    counted = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts.get(name, 0))
    mark = "✗" if len(red) or alarms else "✓"
    lines = [f"### {mark} {described['run_id']}: {counted}", ""]
    if alarms:
        lines += [f"**First:** {alarms[0]}. No green cell of it counts until it is seen.", ""]
        lines += [f"- {words}" for words in alarms[1:MOST_ROWS]]
    elif len(red):
        cell = red.iloc[0]
        again = f"    harness explain {quote(described['run_id'])} {quote(cell.cell_id)}"
        lines += [f"**First:** {named(cell.cell_id)}: {quoted(str(cell.reason))}", "", again, ""]
    lines += _red_table(red)
    packages = described.get("packages", {})
    versions = ", ".join(f"{name} {packages.get(name) or '(none)'}" for name in _NAMED)
    caught = f"{len(controls)} controls planted, {int(controls.caught.sum())} caught"
    lines += ["", f"{caught} · {versions}"]
    unavailable = cells[cells.verdict == "unavailable"]
    return "\n".join([*lines, *_reasons(unavailable.to_dict("records")), ""])


_NAMED: Final = ("torch", "transformers", "transformer-lens")


def _red_table(red: pd.DataFrame) -> list[str]:
    if red.empty:
        return []
    rows = [
        (
            named(cell.cell_id),
            str(cell.verdict),
            named(cell.first_site) if isinstance(cell.first_site, str) else "",
            quoted(str(cell.reason)),
        )
        for _, cell in red.head(MOST_ROWS).iterrows()
    ]
    more = len(red) - MOST_ROWS
    lines = table(("cell", "verdict", "first site", "reason"), rows)
    return [*lines, "", f"… and {more} more that are red"] if more > 0 else lines


def _reasons(cells: Iterable[Mapping[Any, Any]]) -> list[str]:
    """Give what was not measured in one line: how many, and the reason that most have."""
    said = Counter(str(cell["reason"]) for cell in cells)
    if not said:
        return []
    reason, _ = said.most_common(1)[0]
    others = f", and {len(said) - 1} other reasons" if len(said) > 1 else ""
    return ["", f"not measured: {said.total()} cells, most since {quoted(reason)}{others}"]
