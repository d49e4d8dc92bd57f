"""Profiles: which cells a case is asked without a word. Data only.

`default` are the families with hand-written records, in every variant and mode; `breadth` is every
text architecture that the installed transformers has, in the modes that people use: exactly, where
meaning stands out, and in bfloat16, which casts the most; float32 between them is asked by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from harness.case import (
    DEFAULT_DTYPES,
    DEFAULT_MODES,
    EXACT,
    PROBE_DTYPES,
    PROBE_MODES,
    SHRUNK,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.case import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The values that each axis takes where none is asked for.

    Where `probes_by_name`, a variant's probes are asked only of who names both, them and it.
    """

    name: str
    modes: tuple[str, ...]
    dtypes: tuple[str, ...]
    probe_modes: tuple[str, ...]
    probe_dtypes: tuple[str, ...]
    probes_by_name: bool = False


DEFAULT: Final = Profile(
    name="default",
    modes=DEFAULT_MODES,
    dtypes=DEFAULT_DTYPES,
    probe_modes=PROBE_MODES,
    probe_dtypes=PROBE_DTYPES,
)
BREADTH: Final = Profile(
    name="breadth",
    modes=("hf_sdpa", "bridge", "bridge_compat"),
    dtypes=(EXACT, "bfloat16"),
    probe_modes=("hf_eager",),
    probe_dtypes=(EXACT,),
)
_FLIPPED: Final = replace(BREADTH, dtypes=(EXACT,), probes_by_name=True)
"""What breadth asks of flipped configs: what they mean, as rounding is asked of the defaults."""

PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in (DEFAULT, BREADTH)}


def profile_of(case: Case) -> Profile:
    """Give the profile that a case belongs to."""
    if case.is_flipped:
        return _FLIPPED
    return BREADTH if case.checkpoint == SHRUNK else DEFAULT
