"""Words that tables and messages of a run share: marks of verdicts, names, tokens."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]

MARKS: Final = {"fail": "✗", "stale": "stale", "error": "error", "known": "known"}
_SHOWN_TOKENS: Final = 40


def spec_in_shell(spec: str) -> str:
    """Give a SPEC as a shell reads one word: people paste what we print, whoever wrote the row."""
    return quote(spec) if set(spec) & set('"$`\\!\n') else f'"{spec}"'


def forced_words(relation: str) -> str:
    """Say what a run is whose comparisons were forced to a relation."""
    return (
        f"every comparison was forced to be {relation} (--relation {relation}), so that this run "
        "shows what processing does, and is no baseline"
    )


def part_words(described: Mapping[str, Any], cells: int) -> str:
    """Say of a run that is not whole what it is: a shard, a merge or run that lacks cells; else "".

    Args:
        described: What run.json says.
        cells: How many cells the run has by now.
    """
    if part := described.get("shard"):
        return (
            f"SHARD {part['index']}/{part['count']}: {cells} of the {part['of']} cells of the run; "
            "harness merge makes one of all"
        )
    merged = described.get("merged")
    if merged and cells < merged["of"]:
        return f"PARTIAL: {cells} of {merged['of']} cells are there; {'; '.join(merged['missing'])}"
    asked = described.get("asked", {}).get("cells", 0)
    if cells < asked:
        return f"NOT WHOLE: {cells} of {asked} cells are there; next: harness run --resume"
    return ""


def named_families(cells: pd.DataFrame) -> pd.Series:
    """Give the family of each cell, with its checkpoint where that has a name of its own."""
    families = cells.family.astype(str)
    names = cells.checkpoint.astype(str).str.partition(":")[2]
    return families.where(names == "", families + "@" + names)


def name_of(cell: Row) -> str:
    """Print the cell's id with its axes apart; the case's own name may hold dots."""
    axes = [cell["loading_mode"], cell["dtype"]]
    axes += [cell["device"]] if cell["device"] != "cpu" else []
    axes += [cell["probe"]] if cell["probe"] is not None else []
    case = str(cell["cell_id"]).removesuffix("." + ".".join(axes))
    return " · ".join((case, *axes))


def tokens_of(prompt: Row) -> str:
    """Print a prompt's tokens, those of a long one in part, with its size and origin."""
    rows = [list(map(int, row)) for row in prompt["tokens"]]
    text = str(rows if len(rows) > 1 else rows[0])
    shown = text if len(rows) * len(rows[0]) <= _SHOWN_TOKENS else f"{text[:150]} …"
    return f"{shown} ({len(rows)} × {len(rows[0])} tokens, {prompt['origin']})"


def next_lines(cell: Row) -> str:
    """Say what to do about a cell that is not green: have it explained, or measured again."""
    where = f"{quote(str(cell['run_id']))} {quote(str(cell['cell_id']))}"
    return f"  next:    harness explain {where}\n           harness replay {where}"
