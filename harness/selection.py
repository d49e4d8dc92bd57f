"""Which cells of the matrix are asked for, and what to say of a name that is not in it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.case import (
    ASKED_RELATIONS,
    DEVICES,
    DTYPES,
    EXACT,
    LOADING_MODES,
    PROBES,
    SHRUNK,
    SYNTHETIC,
    Case,
    Cell,
    mode_named,
)
from harness.errors import SelectionError
from harness.plugged import plugged_ports
from harness.profile import DEFAULT, PROFILES, profile_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

AXES: Final = ("family", "variant", "mode", "dtype", "device", "checkpoint", "probe", "profile")

ALL: Final = "all"
NONE: Final = "none"
"""What `--probe` takes beside the names of probes: all of them, or comparisons alone."""


def option_of(axis: str) -> str:
    """Give pytest's option for an axis. `--profile` is pytest-profiling's."""
    return "--harness-profile" if axis == "profile" else f"--{axis}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The values asked for on each axis; an empty tuple asks for the default.

    On the axis of probes the default is everything: comparisons, and all probes.
    """

    family: tuple[str, ...] = ()
    variant: tuple[str, ...] = ()
    mode: tuple[str, ...] = ()
    dtype: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    checkpoint: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()

    @property
    def profiles(self) -> tuple[str, ...]:
        """Name the profiles that are asked for; who names checkpoints asks for theirs."""
        if self.profile:
            return self.profile
        if not self.checkpoint:
            return (DEFAULT.name,)
        return tuple(PROFILES) if SHRUNK in self.checkpoint else (DEFAULT.name,)

    @property
    def probes(self) -> tuple[str, ...]:
        """Name the probes that are asked for."""
        if not self.probe or ALL in self.probe:
            return PROBES
        return tuple(name for name in PROBES if name in self.probe)

    @property
    def compares(self) -> bool:
        """Say whether comparisons of port and reference are asked for."""
        return not self.probe or NONE in self.probe

    def admits(self, cell: Cell) -> bool:
        """Say whether the cell is asked for."""
        values = {
            "family": cell.case.family,
            "variant": cell.case.variant,
            "mode": cell.loading_mode,
            "dtype": cell.dtype,
            "device": cell.device,
            "checkpoint": cell.case.checkpoint,
        }
        asked = self.compares if cell.probe is None else cell.probe in self.probes
        asked = asked and profile_of(cell.case).name in self.profiles
        return asked and all(
            not getattr(self, axis) or value in getattr(self, axis)
            for axis, value in values.items()
        )

    def names_probes_of(self, case: Case) -> bool:
        """Say whether probes are named, and the case's variant beside them."""
        return bool(self.probe) and case.variant in self.variant

    def asked(self) -> dict[str, tuple[str, ...]]:
        """Give the axes on which something is asked for: what a run stores, to be resumed."""
        return {axis: getattr(self, axis) for axis in AXES if getattr(self, axis)}


def selection_of(described: Mapping[str, Any]) -> Selection:
    """Give what a run was asked for, by its run.json.

    Raises:
        SelectionError: it was asked on an axis that this release does not have.
    """
    stored = described.get("selection", {})
    if odd := sorted(set(stored).difference(AXES)):
        message = (
            f"run.json: selection has {', '.join(odd)}, but its axes are {', '.join(AXES)}; "
            "restore it from a copy, or measure the run again"
        )
        raise SelectionError(message)
    return Selection(**{axis: tuple(values) for axis, values in stored.items()})


def values_of(words: Collection[str]) -> tuple[str, ...]:
    """Split repeated and comma-separated options into single values.

    Raises:
        SelectionError: an option was given that names nothing, as an unset shell variable does;
            it would ask for everything.
    """
    values = tuple(value for word in words for value in word.split(",") if value)
    if words and not values:
        message = f"an option names nothing ({', '.join(map(repr, words))}); leave it out for all"
        raise SelectionError(message)
    return values


def check_names(selection: Selection, *, families: Iterable[str], variants: Iterable[str]) -> None:
    """Refuse every name that is not in the matrix. A plugged port is a mode that is there to ask.

    Raises:
        SelectionError: an unknown name; says the nearest and lists all. Or a plugged port whose
            name means something else.
    """
    known = {
        "family": sorted(families),
        "variant": sorted(set(variants)),
        "mode": [*LOADING_MODES, *(plugged_ports() if selection.mode else ())],
        "dtype": list(DTYPES),
        "device": list(DEVICES),
        "probe": [*PROBES, ALL, NONE],
        "profile": list(PROFILES),
    }
    for axis, names in known.items():
        for value in getattr(selection, axis):
            if value not in names:
                meant = did_you_mean(value, names)
                message = f"unknown {axis} {value!r}; {meant}known: {', '.join(names)}"
                raise SelectionError(message)


def did_you_mean(value: str, names: Iterable[str]) -> str:
    """Give a sentence with the name that is nearest to a wrong one; nothing if none is near."""
    near = difflib.get_close_matches(value, list(names), n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}? " if near else ""


def checked_relation(name: str) -> str:
    """Give the relation that comparisons are asked in.

    Raises:
        SelectionError: it is none of ASKED_RELATIONS.
    """
    if name in ASKED_RELATIONS:
        return name
    meant = did_you_mean(name, ASKED_RELATIONS)
    message = f"unknown relation {name!r}; {meant}known: {', '.join(ASKED_RELATIONS)}"
    raise SelectionError(message)


def cells_of(
    cases: Iterable[Case], selection: Selection, *, modes: tuple[str, ...] | None = None
) -> tuple[Cell, ...]:
    """Give every comparison of the cases: all loading modes × dtypes × devices asked for.

    Without a word on mode, dtype and device these are those of the case's profile. Large
    checkpoints come first, so that no worker is left with one at the end. `modes` are those that
    can be measured, without a word all.
    """
    if not selection.compares:
        return ()
    return tuple(
        Cell(case=case, loading_mode=mode, dtype=dtype, device=device)
        for case in _by_size(cases)
        for mode in (selection.mode or _offered(case, profile_of(case).modes, modes))
        for dtype in (selection.dtype or profile_of(case).dtypes)
        for device in (selection.device or ("cpu",))
    )


def probe_cells_of(
    cases: Iterable[Case], selection: Selection, *, modes: tuple[str, ...] | None = None
) -> tuple[Cell, ...]:
    """Give every probe of the cases, those of one loaded model together.

    Without a word on mode and dtype these are those of the case's profile, or `modes`, less what
    `is_worth_asking` leaves out.
    """
    by_default = not (selection.mode or selection.dtype)
    cells = (
        Cell(case=case, loading_mode=mode, dtype=dtype, device=device, probe=probe)
        for case in _by_size(cases)
        if selection.names_probes_of(case) or not profile_of(case).probes_by_name
        for mode in (selection.mode or _offered(case, profile_of(case).probe_modes, modes))
        for dtype in (selection.dtype or profile_of(case).probe_dtypes)
        for device in (selection.device or ("cpu",))
        for probe in selection.probes
        if is_asked(probe, mode=mode, dtype=dtype)
    )
    return tuple(cell for cell in cells if not by_default or is_worth_asking(cell))


def _offered(case: Case, asked: tuple[str, ...], there: tuple[str, ...] | None) -> tuple[str, ...]:
    """Give the modes that a case's profile asks, of those that are there; the default asks all."""
    if there is None:
        return asked
    return there if profile_of(case) is DEFAULT else tuple(name for name in asked if name in there)


def is_asked(probe: str, *, mode: str, dtype: str) -> bool:
    """Say whether a probe has something to ask of a loading mode in a dtype.

    Only `transformers` saves models, gives hidden states and has several backends, of which the
    compiled one goes past exact mode; it has no hooks to write to, fused attention has no pattern
    to be read, and gradients are compared where nothing rounds. A plugged port is asked all that
    one of TransformerLens is, and refuses by itself what its interface cannot give.
    """
    from_transformers = mode_named(mode).port == "transformers"
    if probe in {"save_load", "hidden_to_logits"}:
        return from_transformers
    if probe == "backends":
        return mode == "hf_sdpa" or (mode == "hf_eager" and dtype != EXACT)
    if probe == "hook_semantics":
        return not from_transformers
    if probe == "pattern":
        return mode != "hf_sdpa"
    return probe != "gradients" or (dtype == EXACT and mode != "hf_eager")


def is_worth_asking(cell: Cell) -> bool:
    """Say whether a probe is asked by default; all others are, by naming their mode or dtype.

    Every variant is asked where meaning stands out, in true float64 with eager attention and in
    the bridge, and in float32 on the kernels that people use. What rounding or processing could
    add is asked of each family once. Large checkpoints take minutes in float64, and are asked in
    float32 on the paths in use. Tokens have no dtype and no variant, and a graph takes seconds to
    compile, so that it is compiled of each family once.
    """
    if cell.case.checkpoint == SHRUNK:
        return cell.probe != "tokens"
    if cell.case.checkpoint != SYNTHETIC:
        return cell.dtype == "float32" and cell.loading_mode in {"hf_sdpa", "bridge"}
    if cell.case.variant == "default":
        once = {"bridge_compat": EXACT, "hooked": EXACT}
        if cell.probe == "tokens":
            return cell.dtype == EXACT
        return once.get(cell.loading_mode, cell.dtype) == cell.dtype
    wanted = {"hf_sdpa": "float32"}
    return (
        cell.probe != "tokens"
        and cell.loading_mode in {"hf_eager", "hf_sdpa", "bridge", "hooked_no_processing"}
        and wanted.get(cell.loading_mode, EXACT) == cell.dtype
    )


def _by_size(cases: Iterable[Case]) -> list[Case]:
    return sorted(cases, key=lambda case: case.checkpoint in {SYNTHETIC, SHRUNK})
