"""Which cells are examined: the families of the default matrix, and the variants with more parts.

A variant stands here if it has a part that its family's default lacks: a window, grouped heads, a
bias, a scaling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.case import DTYPES, Case
from harness.errors import SelectionError
from harness.models.families import FAMILIES
from harness.teeth.exam import MODES, Part
from harness.teeth.fault import KINDS
from harness.teeth.quiet import QuietPart

if TYPE_CHECKING:
    from collections.abc import Sequence

MORE: Final = {
    "llama": ("gqa", "llama3_rope", "biases"),
    "mistral": ("window",),
}


def quiet_parts(
    *, families: Sequence[str] = (), dtypes: Sequence[str] = (), seeds: int
) -> list[QuietPart]:
    """Give what is asked of clean cells in a selection; nothing named is everything.

    Raises:
        SelectionError: a name is none of those known.
    """
    return [
        QuietPart(case=part.case, dtype=part.dtype, seeds=range(seeds))
        for part in parts_of(families=families, dtypes=dtypes)
    ]


def parts_of(
    *,
    families: Sequence[str] = (),
    modes: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    kinds: Sequence[str] = (),
    every: bool = False,
) -> list[Part]:
    """Give what is to be examined of a selection; nothing named is everything.

    Raises:
        SelectionError: a name is none of those known.
    """
    native = [name for name, family in FAMILIES.items() if family.is_native]
    for named, known in ((families, native), (modes, MODES), (dtypes, DTYPES), (kinds, KINDS)):
        for name in named:
            if name not in known:
                message = f"{name!r} is not known here; next: name one of {', '.join(known)}"
                raise SelectionError(message)
    return [
        Part(
            case=Case(family=family, variant=variant),
            dtype=dtype,
            modes=tuple(modes) or MODES,
            kinds=frozenset(kinds),
            every=every,
        )
        for family in families or native
        for variant in ("default", *MORE.get(family, ()))
        for dtype in dtypes or DTYPES
    ]
