"""A side of a gate: the rows of a recorded run or of an accepted baseline, by cell and site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.case import Case
from harness.errors import RunFolderError
from harness.judge.baseline import is_baseline, read_baseline, refuse_forced
from harness.record import (
    TEXT_ORIGIN,
    read_cells,
    read_fingerprints,
    read_prompts,
    read_run,
    require,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

Row = dict[str, Any]
# A case on a device: family, variant, checkpoint, device.
CaseKey = tuple[str, str, str, str]
# A site in the coordinates that a relation compares in.
SiteKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side of a gate knows, in the shape in which verdicts are worked out.

    `references` has the rows of reference and oracle by case, dtype and side; `ports` those of
    each cell; `prompts` the fingerprinted prompts of each case, in their order; `smallest` the
    prompt that a failing cell was cut down to; `texts` the token ids of texts, by cell and text.
    """

    name: str
    packages: Mapping[str, str | None]
    cells: Mapping[str, Row]
    references: Mapping[tuple[CaseKey, str, str], Mapping[SiteKey, Row]]
    ports: Mapping[str, Mapping[str, Row]]
    prompts: Mapping[str, tuple[Row, ...]]
    smallest: Mapping[str, Row]
    texts: Mapping[str, Mapping[str, Row]]


def read_side(path: Path, *, name: str = "") -> Side:
    """Read a run's folder or a baseline's.

    Raises:
        RunFolderError: it is neither, cannot be read, or is of another schema.
        UsageError: it is a run whose relations were forced.
    """
    if is_baseline(path):
        described, cells, fingerprints, prompts = read_baseline(path)
        run = prompts
    else:
        described = read_run(path)
        require(path, described, "packages")
        refuse_forced(path, described)
        cells = read_cells(path)
        fingerprints = read_fingerprints(path)
        run = read_prompts(path)
        prompts = run[run.fingerprinted]
    is_text = run.origin.astype(str).str.startswith(TEXT_ORIGIN)
    if cells.empty:
        message = f"{path} has no cells: nothing can be compared with it; give another folder"
        raise RunFolderError(message)
    return Side(
        name=name or str(path),
        packages=described["packages"],
        cells={row["cell_id"]: row for row in records(cells)},
        references=_references(fingerprints),
        ports=_ports(fingerprints),
        prompts=_prompts(cells, prompts[~is_text.reindex(prompts.index)]),
        smallest=_smallest(cells, run),
        texts=_texts(run[is_text]),
    )


def case_key(row: Mapping[str, Any]) -> CaseKey:
    """Give the key of a row's case and device."""
    return (row["family"], row["variant"], row["checkpoint"], row["device"])


def case_id(row: Mapping[str, Any]) -> str:
    """Give the id of a row's case."""
    return Case(family=row["family"], variant=row["variant"], checkpoint=row["checkpoint"]).id


def records(frame: pd.DataFrame) -> list[Row]:
    """Give rows as plain values; what is missing is None, where pandas says NaN."""
    plain = frame.astype(object)
    rows = plain.where(plain.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _references(frame: pd.DataFrame) -> dict[tuple[CaseKey, str, str], dict[SiteKey, Row]]:
    found: dict[tuple[CaseKey, str, str], dict[SiteKey, Row]] = {}
    for row in records(frame[frame.side != "port"]):
        key = (case_key(row), row["dtype"], row["side"])
        found.setdefault(key, {})[row["site"], row["relation"]] = row
    return found


def _ports(frame: pd.DataFrame) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in sorted(records(frame[frame.side == "port"]), key=lambda row: row["place"]):
        found.setdefault(row["cell_id"], {})[row["site"]] = row
    return found


def _prompts(cells: pd.DataFrame, prompts: pd.DataFrame) -> dict[str, tuple[Row, ...]]:
    """Give the prompts of each case, from the first of its cells that ran them all."""
    cases = {row["cell_id"]: case_id(row) for row in records(cells)}
    found: dict[str, tuple[Row, ...]] = {}
    for cell, group in prompts.groupby("cell_id", sort=False, observed=True):
        case = cases.get(str(cell))
        # A cell that broke off has the prompts up to there.
        if case is not None and len(group) > len(found.get(case, ())):
            found[case] = tuple(records(group))
    return found


def _texts(prompts: pd.DataFrame) -> dict[str, dict[str, Row]]:
    """Give the token ids of texts, by the cell that asked and the text's name."""
    found: dict[str, dict[str, Row]] = {}
    for row in records(prompts):
        ids = [[int(token) for token in tokens] for tokens in row["tokens"]]
        mask = [[int(bit) for bit in bits] for bits in row["attention_mask"]]
        name = row["origin"].removeprefix(TEXT_ORIGIN)
        found.setdefault(row["cell_id"], {})[name] = {"tokens": ids, "attention_mask": mask}
    return found


def _smallest(cells: pd.DataFrame, prompts: pd.DataFrame) -> dict[str, Row]:
    named = {row["cell_id"]: row["first_prompt_id"] for row in records(cells)}
    rows = records(prompts)
    return {row["cell_id"]: row for row in rows if named.get(row["cell_id"]) == row["prompt_id"]}
