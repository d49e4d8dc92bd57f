"""How rows are packed into a page: column by column, names once, numbers to three digits."""

from __future__ import annotations

import base64
import gzip
import json
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIGITS: Final = 3


def number(value: float | None) -> float | str | None:
    """Give a number to three digits; JSON has no word for those that are not finite."""
    if value is None:
        return None
    value = float(value)
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(f"{value:.{_DIGITS}g}")


def numbers(values: Iterable[float | None]) -> list[float | str | None]:
    """Give many; NaN, which is how pandas says that there is none, is null."""
    return [None if value is None or math.isnan(value) else number(value) for value in values]


def labels(values: Iterable[Any]) -> dict[str, list[Any]]:
    """Give labels as `names`, each once, and `codes` into them; what is missing has code -1."""
    names: dict[str, int] = {}
    codes = [
        names.setdefault(value, len(names)) if isinstance(value, str) else -1 for value in values
    ]
    return {"names": list(names), "codes": codes}


def packed(data: object) -> str:
    """Give JSON, compressed, as base64: it holds no character that HTML would read."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
