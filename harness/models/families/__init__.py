"""One small record per architecture, gathered by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.models.families import gpt2, llama

if TYPE_CHECKING:
    from harness.models.family import Family

FAMILIES: Final[dict[str, Family]] = {
    record.FAMILY.name: record.FAMILY
    for record in (
        gpt2,
        llama,
    )
}
