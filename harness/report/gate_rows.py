"""gate.json read back: as it is, and as a DataFrame with a row per cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.errors import RunFolderError
from harness.judge.gate import AXES, VERDICTS
from harness.record import read_sealed
from harness.report.gates import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

FILE: Final = "gate.json"
_LABELS: Final = (*AXES, "attribution", "nature", "first_site")
_NUMBERS: Final = ("drift", "drift_reference", "drift_port", "drift_logits")

_SAID: Final = (str, type(None))
_MEASURED: Final = (int, float, str, type(None))
_OF_A_GATE: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("overall", "baseline", "candidate"), (str,)),
    **dict.fromkeys(("packages", "cells"), (list,)),
    "counts": (dict,),
}
_OF_A_PACKAGE: Final[dict[str, tuple[type, ...]]] = {"name": (str,), "old": _SAID, "new": _SAID}
_OF_A_PROMPT: Final[dict[str, tuple[type, ...]]] = {"origin": (str,), "tokens": (list,)}
_OF_A_RATIO: Final[dict[str, tuple[type, ...]]] = {"old": _MEASURED, "new": _MEASURED}
_OF_A_CELL: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys((*_LABELS, "reason"), _SAID),
    **dict.fromkeys(_NUMBERS, _MEASURED),
    **dict.fromkeys(("moved_by", "lost_sites"), (list,)),
    **dict.fromkeys(("cell_id", "family", "checkpoint", "verdict"), (str,)),
    "worse": (bool,),
    "error_ratio": (dict,),
    "prompt": (dict, type(None)),
}
"""What each entry of gate.json must be."""


def gate_json(path: str | Path) -> dict[str, Any]:
    """Read gate.json of a gate, given by its folder or by the file.

    Raises:
        RunFolderError: there is none, or it is of another schema version.
    """
    file = Path(path) if Path(path).suffix == ".json" else Path(path) / FILE
    try:
        gate = read_sealed(file)
        version = gate["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{file} is no gate ({error}); next: harness gate --out {file.parent}"
        raise RunFolderError(message) from error
    if version != SCHEMA_VERSION:
        message = (
            f"{file}: schema_version={version}, but should be {SCHEMA_VERSION}; "
            "read it with the release of the harness that wrote it, or gate again"
        )
        raise RunFolderError(message)
    if wrong := _what_is_wrong(gate):
        message = f"{file} is no gate ({wrong}); next: harness gate --out {file.parent}"
        raise RunFolderError(message)
    found: dict[str, Any] = gate
    return found


def _what_is_wrong(gate: dict[str, Any]) -> str:
    """Say what of a gate is not as `as_json` writes it; nothing if all is."""
    try:
        return next(_faults(gate), "")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return repr(error)


def _faults(gate: dict[str, Any]) -> Iterator[str]:
    yield from _not_of(gate, _OF_A_GATE)
    for package in gate["packages"]:
        yield from _not_of(package, _OF_A_PACKAGE)
    for cell in gate["cells"]:
        yield from _faults_of_cell(cell)


def _faults_of_cell(cell: dict[str, Any]) -> Iterator[str]:
    yield from _not_of(cell, _OF_A_CELL)
    yield from _not_of(cell["error_ratio"], _OF_A_RATIO)
    for number in (*(cell[name] for name in _NUMBERS), *cell["error_ratio"].values()):
        _number(number)
    for name in (*cell["moved_by"], *cell["lost_sites"]):
        if not isinstance(name, str):
            yield f"{name!r:.80} is no name"
    if cell["verdict"] not in VERDICTS:
        yield f"verdict={cell['verdict']!r}"
    if cell["prompt"] is not None:
        yield from _not_of(cell["prompt"], _OF_A_PROMPT)
        for row in cell["prompt"]["tokens"]:
            len(row)


def _not_of(entry: dict[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> Iterator[str]:
    for name, kind in kinds.items():
        if not isinstance(entry[name], kind):
            yield f"{name}={entry[name]!r:.80}"


def read_gate(path: str | Path) -> pd.DataFrame:
    """Read a gate, one row per cell.

    Axes, `verdict` (in the order of the verdicts), `attribution` (who moved: reference, port,
    both, none), `nature` (meaning or rounding) and `first_site` are categories. `worse` is a
    bool; `drift` and its like are relative to the old norm; `error_old` and `error_new` are the
    largest error ratio over sites, in exact mode rel_l2; `moved_by` and `lost_sites` are words by
    spaces; `reason` is in words. `attrs` hold `overall`, `baseline`, `candidate` and `packages`,
    the pairs of versions (old, new) of those that differ.

    Args:
        path: The gate's folder, or its gate.json.

    Raises:
        RunFolderError: there is none, or it is of another schema version.
    """
    import pandas as pd  # noqa: PLC0415 - half a second, when a frame is asked for

    gate = gate_json(path)
    rows = [
        {
            **{name: cell[name] for name in _LABELS},
            "verdict": cell["verdict"],
            "worse": bool(cell["worse"]),
            **{name: _number(cell[name]) for name in _NUMBERS},
            "error_old": _number(cell["error_ratio"]["old"]),
            "error_new": _number(cell["error_ratio"]["new"]),
            "moved_by": " ".join(cell["moved_by"]),
            "lost_sites": " ".join(cell["lost_sites"]),
            "reason": cell["reason"],
        }
        for cell in gate["cells"]
    ]
    frame = pd.DataFrame(rows, columns=None if rows else [*_LABELS, "verdict", "worse", *_NUMBERS])
    frame = frame.astype(dict.fromkeys(_LABELS, "category"))
    frame["verdict"] = pd.Categorical(frame.verdict, categories=list(VERDICTS), ordered=True)
    frame.attrs = {name: gate[name] for name in ("overall", "baseline", "candidate")}
    frame.attrs["packages"] = {
        each["name"]: (each["old"], each["new"]) for each in gate["packages"]
    }
    return frame


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)
