"""A run as JUnit XML: a test case per cell, one per control that was not caught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from harness.judge.controls import uncaught
from harness.record import RED, read_cells, read_controls, read_run
from harness.report.characters import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def junit(run: Path) -> str:
    """Give JUnit XML: red is a failure, `error` an error, unavailable is skipped.

    A known difference passes, with its reason as output.

    Raises:
        RunFolderError: the folder is no run, or no cell of it was measured.
    """
    described, cells = read_run(run), read_cells(run)
    suite = ET.Element("testsuite", name="harness run", timestamp=str(described.get("started")))
    for cell in cells.to_dict("records"):
        _add_cell(suite, cell)
    for words in uncaught(cells, read_controls(run)):
        case = ET.SubElement(suite, "testcase", classname="controls", name=printable(words))
        ET.SubElement(case, "failure", message="control not caught").text = printable(words)
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("tests", str(len(suite)))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _add_cell(suite: ET.Element, cell: Mapping[Any, Any]) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=printable(f"{cell['family']}.{cell['variant']}"),
        name=printable(str(cell["cell_id"])),
        time=f"{cell['seconds']:.3f}",
    )
    reason = printable(str(cell["reason"])) if isinstance(cell["reason"], str) else ""
    first = cell["first_site"]
    site = f"first at {printable(first)}\n" if isinstance(first, str) else ""
    verdict = str(cell["verdict"])
    if verdict in RED:
        kind = "error" if verdict == "error" else "failure"
        ET.SubElement(case, kind, message=verdict).text = f"{site}{reason}"
    elif verdict == "unavailable":
        ET.SubElement(case, "skipped", message=reason)
    elif verdict == "known":
        ET.SubElement(case, "system-out").text = f"known: {reason}"
