"""The table of known regressions: rows as declared in rows.toml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomllib

from harness.selection import NONE, Selection

TABLE: Final = Path(__file__).with_name("rows.toml")
RELATION: Final = "relation"
AXES: Final = ("family", "variant", "mode", "dtype", "probe")
ASKED: Final = (*AXES, "checkpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtained:
    """What a gate, or for a relation a run, says of one cell.

    `changed` are the sites at which the side that moved has other bits; `drifts` the relative
    drift at the first site and at the logits; `shift` the largest raw difference of the logits,
    which is what a relation takes out.
    """

    cell_id: str
    family: str
    variant: str
    mode: str
    dtype: str
    verdict: str
    worse: bool
    probe: str = NONE
    attribution: str = ""
    nature: str = ""
    site: str = ""
    changed: frozenset[str] = frozenset()
    drifts: tuple[float, float] | None = None
    shift: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is expected of the cells that it selects; an empty value is not looked at."""

    verdict: tuple[str, ...]
    attribution: str = ""
    nature: str = ""
    site: str = ""
    seen_at: str = ""
    shift_above: float = 0.0
    family: tuple[str, ...] = ()
    variant: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    dtype: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()

    def selects(self, cell: Obtained) -> bool:
        """Say whether this is what is expected of the cell."""
        return all(
            not getattr(self, axis) or getattr(cell, axis) in getattr(self, axis) for axis in AXES
        )

    def site_in(self, cell: Obtained) -> str:
        """Give the site that must be named first: `seen_at` only if nothing changed at `site`."""
        return self.seen_at if self.seen_at and self.site not in cell.changed else self.site

    def __str__(self) -> str:
        """Print as `port_moved (port, meaning) at blocks.0.attn.q`."""
        inside = ", ".join(filter(None, (self.attribution, self.nature)))
        seen = f", seen at {self.seen_at}" if self.seen_at else ""
        words = "/".join(self.verdict) + (f" ({inside})" if inside else "")
        words += f" at {self.site}{seen}" if self.site else ""
        words += f", raw shift > {self.shift_above}" if self.shift_above else ""
        selected = ", ".join("/".join(getattr(self, axis)) for axis in AXES if getattr(self, axis))
        return f"{selected}: {words}" if selected else words


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One known regression, or with `fault` false one that only looks so.

    Without `probe`, port and reference are compared.
    """

    id: str
    what: str
    fault: bool
    question: str
    good: str
    bad: str
    family: tuple[str, ...]
    variant: tuple[str, ...]
    mode: tuple[str, ...]
    dtype: tuple[str, ...]
    expected: tuple[Expected, ...]
    size: str
    reference: str
    probe: tuple[str, ...] = (NONE,)
    checkpoint: tuple[str, ...] = ()
    note: str = ""

    @property
    def selection(self) -> Selection:
        """Give the cells that are asked."""
        return Selection(**{axis: getattr(self, axis) for axis in ASKED})

    @property
    def asked(self) -> str:
        """Print what is asked, one thing a line."""
        versions = (self.good, f"→ {self.bad}") if self.bad else (self.good,)
        return "\n".join((*versions, *(" ".join(getattr(self, axis)) for axis in AXES)))


def load_rows(file: Path = TABLE) -> tuple[Row, ...]:
    """Read the table.

    Raises:
        TypeError: a row lacks a field, or has one that there is not.
    """
    return tuple(map(_row, tomllib.loads(file.read_text(encoding="utf-8"))["row"]))


def _row(given: dict[str, Any]) -> Row:
    expected = tuple(Expected(**_frozen(each)) for each in given["expected"])
    return Row(**_frozen({**given, "expected": expected}))


def _frozen(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
