"""Two sides in, one verdict per cell out: what moved, where first, and who moved it.

Meaning is judged by the oracle, the reference in true float64: where it moves by more than
`EXACT_BOUND` the reference computes something else. A port that agrees with its reference on both
sides moved exactly if the reference did; one that does not is followed by the sketch of its own
distance. What is left is rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from harness.bounds import EXACT_BOUND, bound_for, chance_factor, error_floor
from harness.case import EXACT, LOADING_MODES
from harness.errors import RunFolderError
from harness.judge.sides import case_id, case_key
from harness.record import RED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.judge.sides import Row, Side

VERDICTS: Final = (
    "unchanged",
    "rounding",
    "reference_moved",
    "port_moved",
    "both_moved",
    "broke",
    "fixed",
    "appeared",
    "vanished",
    "unmeasured",
)
WORSE: Final = frozenset({"reference_moved", "port_moved", "both_moved", "broke", "vanished"})

_FLOAT32_EPS: Final = 2.0**-23
"""Sketches of a port's distance are kept in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCell:
    """The verdict on one cell, old → new.

    `nature` is `meaning` or `rounding` where something moved; `moved_by` the packages that may
    have moved it. Drifts are relative to the old norm, at `first_site`; `drift_logits` at the
    logits. Error ratios are the largest over sites (in exact mode rel_l2 takes their place).
    """

    cell_id: str
    family: str
    variant: str
    checkpoint: str
    loading_mode: str
    dtype: str
    device: str
    verdict: str
    worse: bool
    reason: str = ""
    attribution: str = "none"
    nature: str = ""
    moved_by: tuple[str, ...] = ()
    first_site: str | None = None
    drift: float | None = None
    drift_reference: float | None = None
    drift_port: float | None = None
    drift_logits: float | None = None
    error_ratio_old: float | None = None
    error_ratio_new: float | None = None
    prompt: Row | None = None
    lost_sites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A package whose version differs between the sides; None where a side lacks it."""

    name: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        """Print as `transformers 5.9.0 → 5.23.0`."""
        return f"{self.name} {self.old or '(absent)'} → {self.new or '(absent)'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """All verdicts of a gate, and the packages that differ between its sides."""

    baseline: str
    candidate: str
    cells: tuple[GateCell, ...]
    packages: tuple[Change, ...] = ()

    @property
    def asked(self) -> bool:
        """Say whether anything could be compared at all."""
        return any(cell.verdict != "unmeasured" for cell in self.cells)

    @property
    def worse(self) -> tuple[GateCell, ...]:
        """Give the cells that got worse."""
        return tuple(cell for cell in self.cells if cell.worse)

    @property
    def overall(self) -> str:
        """Say `worse`, `not worse`, or `not asked` where nothing could be compared."""
        if not self.asked:
            return "not asked"
        return "worse" if self.worse else "not worse"

    @property
    def exit_code(self) -> int:
        """Give 0 where nothing is worse, 1 where something is, 2 where nothing was compared."""
        return {"not worse": 0, "worse": 1, "not asked": 2}[self.overall]


def gate(old: Side, new: Side, cell_ids: Iterable[str]) -> Gate:
    """Judge cells, old → new.

    Raises:
        RunFolderError: the sides answer different questions: other checkpoints or prompts.
    """
    changes = changes_between(old, new)
    cells = tuple(judged(cell_id, old, new, changes) for cell_id in cell_ids)
    return Gate(baseline=old.name, candidate=new.name, cells=cells, packages=changes)


def changes_between(old: Side, new: Side) -> tuple[Change, ...]:
    """Give the packages whose versions differ between two sides."""
    names = sorted({*old.packages, *new.packages} - {"model-port-harness"})
    return tuple(
        Change(name=name, old=old.packages.get(name), new=new.packages.get(name))
        for name in names
        if old.packages.get(name) != new.packages.get(name)
    )


def judged(cell_id: str, old: Side, new: Side, changes: Sequence[Change] = ()) -> GateCell:
    """Judge one cell.

    Raises:
        RunFolderError: the sides answer different questions about it.
    """
    before, after = old.cells.get(cell_id), new.cells.get(cell_id)
    known = after or before
    if known is None:
        message = f"{cell_id}: neither {old.name} nor {new.name} has it; name a cell that one has"
        raise RunFolderError(message)
    axes = {name: known[name] for name in _AXES}
    if before is None or after is None or cell_id not in old.ports or cell_id not in new.ports:
        return GateCell(**axes, **_without_numbers(cell_id, before, after, old, new))
    moves = _Moves(cell_id, axes, old, new)
    return moves.cell(changes)


_AXES: Final = (
    "cell_id",
    "family",
    "variant",
    "checkpoint",
    "loading_mode",
    "dtype",
    "device",
)


def _without_numbers(
    cell_id: str, before: Row | None, after: Row | None, old: Side, new: Side
) -> dict[str, Any]:
    """Judge a cell of which one side at least has no numbers."""
    if after is None:
        there = before is not None and cell_id in old.ports
        verdict = "vanished" if there else "unmeasured"
        return {
            "verdict": verdict,
            "worse": there,
            "reason": f"{new.name} does not have it",
        }
    red = after["verdict"] in RED
    if before is None:
        return {
            "verdict": "appeared",
            "worse": red,
            "reason": after["reason"] or f"{old.name} does not have it",
        }
    if cell_id in old.ports:
        return {
            "verdict": "broke",
            "worse": True,
            "attribution": "port",
            "reason": after["reason"] or "it was not measured",
        }
    if cell_id in new.ports:
        return {
            "verdict": "appeared" if red or before["verdict"] == "unavailable" else "fixed",
            "worse": red,
            "reason": f"before: {before['reason']}",
        }
    return {"verdict": "unmeasured", "worse": False, "reason": after["reason"] or ""}


@dataclass(slots=True, kw_only=True)
class _Site:
    """What happened at one site: how far each side moved, and whether that is a move."""

    site: str
    reference_drift: float
    port_drift: float
    reference_moved: bool
    port_moved: bool
    grown: bool


@dataclass(slots=True)
class _Moves:
    """Everything that moved in one cell, site by site in forward order."""

    cell_id: str
    axes: dict[str, Any]
    old: Side
    new: Side
    sites: list[_Site] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Follow every site that both sides have."""
        before, after = self.old.ports[self.cell_id], self.new.ports[self.cell_id]
        for site, row in before.items():
            if site in after and not self._mask_moved(row):
                self.sites.append(self._site(row, after[site]))

    @property
    def dtype(self) -> str:
        return str(self.axes["dtype"])

    def cell(self, changes: Sequence[Change]) -> GateCell:
        """Give the verdict."""
        before, after = self.old.ports[self.cell_id], self.new.ports[self.cell_id]
        lost = tuple(site for site in before if site not in after)
        newly = [site for site in after if _fails(after, site) and not _fails(before, site)]
        references = [each.site for each in self.sites if each.reference_moved]
        ports = [each.site for each in self.sites if each.port_moved]
        verdict, attribution = self._who(references, ports, newly)
        first = next((each for each in self.sites if each.site in {*references, *ports}), None)
        if first is None and newly:
            first = next((each for each in self.sites if each.site == newly[0]), None)
        reason = ""
        if lost:
            reason = f"{len(lost)} sites are compared no more: {' '.join(lost)}"
            verdict = verdict if verdict in WORSE else "vanished"
        logits = next((each for each in self.sites if each.site == "logits"), None)
        moved = verdict in WORSE | {"fixed", "rounding"} and verdict != "vanished"
        return GateCell(
            **self.axes,
            verdict=verdict,
            worse=verdict in WORSE,
            reason=reason,
            attribution=attribution,
            nature=self._nature(first) if moved else "",
            moved_by=_movers(attribution, self.axes["loading_mode"], changes) if moved else (),
            first_site=first.site if first else self._first_rounded() if moved else None,
            drift=max(first.reference_drift, first.port_drift) if first else None,
            drift_reference=first.reference_drift if first else None,
            drift_port=first.port_drift if first else None,
            drift_logits=max(logits.reference_drift, logits.port_drift) if logits else None,
            error_ratio_old=_worst(before),
            error_ratio_new=_worst(after),
            prompt=self._prompt(first) if first else None,
            lost_sites=lost,
        )

    def _who(
        self, references: Sequence[str], ports: Sequence[str], newly: Sequence[str]
    ) -> tuple[str, str]:
        """Give the verdict and the side that moved, from the sites at which each did."""
        before, after = self.old.ports[self.cell_id], self.new.ports[self.cell_id]
        was_wrong = any(_fails(before, site) for site in before)
        is_wrong = any(_fails(after, site) for site in after)
        if not references and not ports:
            if newly:
                return "port_moved", "port"
            if was_wrong and not is_wrong:
                return "fixed", "port"
            changed, side = self._digests_changed()
            return ("rounding", side) if changed else ("unchanged", "none")
        side = "both" if references and ports else "reference" if references else "port"
        same_library = LOADING_MODES[self.axes["loading_mode"]].port == "transformers"
        if side == "both" and same_library and not newly:
            # Another path through the reference's own library, that still agrees with it.
            side = "reference"
        if was_wrong and not is_wrong:
            return "fixed", side
        return f"{side}_moved", side

    def _digests_changed(self) -> tuple[bool, str]:
        before, after = self.old.ports[self.cell_id], self.new.ports[self.cell_id]
        port = any(
            row["digest"] != after[site]["digest"] for site, row in before.items() if site in after
        )
        reference = bool(self._rounded_references())
        side = "both" if port and reference else "reference" if reference else "port"
        # What the reference's library does to both is the reference's.
        same_library = LOADING_MODES[self.axes["loading_mode"]].port == "transformers"
        if side == "both" and same_library:
            side = "reference"
        return port or reference, side

    def _rounded_references(self) -> list[str]:
        """Name the sites at which the reference, in the cell's dtype, changed at all."""
        key = (case_key(self.axes), self.dtype, "reference")
        before, after = self.old.references.get(key, {}), self.new.references.get(key, {})
        changed = [
            row
            for name, row in before.items()
            if name in after and row["digest"] != after[name]["digest"]
        ]
        return [row["site"] for row in sorted(changed, key=lambda row: row["place"])]

    def _first_rounded(self) -> str | None:
        before, after = self.old.ports[self.cell_id], self.new.ports[self.cell_id]
        references = set(self._rounded_references())
        return next(
            (
                site
                for site, row in before.items()
                if site in references or (site in after and row["digest"] != after[site]["digest"])
            ),
            None,
        )

    def _nature(self, first: _Site | None) -> str:
        if first is None:
            return "rounding"
        if self.dtype == EXACT or first.reference_drift > EXACT_BOUND:
            return "meaning"
        if first.grown and not first.port_moved:
            return "rounding"
        # A port in a low dtype that leaves its bounds: its exact twin says what it is.
        twin = ".".join(EXACT if part == self.dtype else part for part in self.cell_id.split("."))
        if twin in self.old.ports and twin in self.new.ports:
            moves = _Moves(twin, {**self.axes, "cell_id": twin, "dtype": EXACT}, self.old, self.new)
            meant = any(each.port_moved or each.reference_moved for each in moves.sites)
            return "meaning" if meant else "rounding"
        return "unknown"

    def _oracles(self, site: str, relation: str) -> tuple[Row, Row]:
        """Give the oracle's rows of a site on both sides."""
        case = case_key(self.axes)
        found = []
        for side in (self.old, self.new):
            own = side.references.get((case, self.dtype, "oracle"))
            shared = side.references.get((case, EXACT, "reference"))
            rows = own or shared or {}
            if (site, relation) not in rows:
                message = (
                    f"{side.name} has no fingerprint of {site} ({relation}) [{self.cell_id}]; "
                    "it is incomplete: measure it again"
                )
                raise RunFolderError(message)
            found.append(rows[site, relation])
        return found[0], found[1]

    def _mask_moved(self, row: Row) -> bool:
        """Say whether other scores are masked out: then pattern, not scores, can be compared."""
        before, after = self._oracles(row["site"], row["relation"])
        return row["site"].endswith("attn_scores") and before["masked"] != after["masked"]

    def _site(self, before: Row, after: Row) -> _Site:
        if before["question"] != after["question"]:
            message = (
                f"{self.cell_id}: {self.old.name} and {self.new.name} were asked different "
                "questions: other weights, config or prompts\n"
                "  next:    measure both again with this release, or accept a new baseline"
            )
            raise RunFolderError(message)
        old, new = self._oracles(before["site"], before["relation"])
        reference_drift = _drift(old, new)
        floor = error_floor(self.dtype)
        refactored = "refactor" in self.axes["loading_mode"]
        bound = bound_for(self.dtype, refactored=refactored) * chance_factor(before["n_values"])
        errors = (before["reference_error"] or 0.0, after["reference_error"] or 0.0)
        grown = self.dtype != EXACT and errors[1] > bound * max(errors[0], floor)
        reference_moved = reference_drift > EXACT_BOUND
        if before["nonfinite"] != after["nonfinite"]:
            port_drift, port_moved = math.inf, True
        elif not before["failed"] and not after["failed"]:
            # It agrees with its reference on both sides: it went where the reference went.
            port_drift, port_moved = reference_drift, reference_moved
        else:
            port_drift = _port_drift(old, new, before, after)
            allowed = EXACT_BOUND
            if self.dtype != EXACT:
                allowed = bound * (errors[0] + errors[1] + floor)
            away = max(map(_size_of_difference, (before, after)))
            allowed = max(allowed, 4 * _FLOAT32_EPS * away / max(old["norm"], _TINY))
            port_moved = port_drift > allowed
        return _Site(
            site=before["site"],
            reference_drift=reference_drift,
            port_drift=port_drift,
            reference_moved=reference_moved or grown,
            port_moved=port_moved,
            grown=grown,
        )

    def _prompt(self, first: _Site) -> Row | None:
        """Give the smallest stored prompt that shows the first move."""
        prompts = self.new.prompts.get(case_id(self.axes), ())
        named = self.new.cells[self.cell_id]["first_prompt_id"]
        if not first.reference_moved and named is not None:
            found = next((row for row in prompts if row["prompt_id"] == named), None)
            return _shown(found) if found else None
        relation = self.old.ports[self.cell_id][first.site]["relation"]
        old, new = self._oracles(first.site, relation)
        moved = [
            prompt
            for prompt, before, after, norm in zip(
                prompts,
                _listed(old["prompt_projections"]),
                _listed(new["prompt_projections"]),
                _listed(old["prompt_norms"]),
                strict=False,
            )
            if abs(before - after) > EXACT_BOUND * max(norm, _TINY)
        ]
        smallest = min(moved, key=_size_of_prompt, default=None)
        return _shown(smallest) if smallest else None


_TINY: Final = 1e-300


def _fails(rows: Mapping[str, Row], site: str) -> bool:
    return bool(rows[site]["failed"])


def _worst(rows: Mapping[str, Row]) -> float | None:
    return max((row["error_ratio"] for row in rows.values()), default=None)


def _listed(values: Sequence[float] | None) -> list[float]:
    return [] if values is None else [float(value) for value in values]


def _drift(old: Row, new: Row) -> float:
    """Give how far a fingerprint moved, relative to the old norm; infinity where shapes differ."""
    if old["digest"] == new["digest"]:
        return 0.0
    if old["n_values"] != new["n_values"] or old["nonfinite"] != new["nonfinite"]:
        return math.inf
    gap = math.dist(_listed(old["sketch"]), _listed(new["sketch"]))
    return gap / max(old["norm"], _TINY)


def _port_drift(old: Row, new: Row, before: Row, after: Row) -> float:
    """Give how far a port moved: the oracle's move, and the move of its distance from it."""
    if before["digest"] == after["digest"]:
        return 0.0
    if before["n_values"] != after["n_values"]:
        return math.inf
    places = zip(
        _listed(old["sketch"]),
        _listed(new["sketch"]),
        _difference(before, len(old["sketch"])),
        _difference(after, len(old["sketch"])),
        strict=True,
    )
    gap = math.hypot(*((b + d) - (a + c) for a, b, c, d in places))
    return gap / max(old["norm"], _TINY)


def _difference(row: Row, length: int) -> list[float]:
    found = _listed(row["difference_sketch"])
    return found or [0.0] * length


def _size_of_difference(row: Row) -> float:
    return math.hypot(*_listed(row["difference_sketch"]))


def _size_of_prompt(row: Row) -> tuple[int, int]:
    tokens = row["tokens"]
    return (len(tokens) * len(tokens[0]), len(tokens))


def _shown(row: Row) -> Row:
    return {
        "prompt_id": row["prompt_id"],
        "origin": row["origin"],
        "tokens": [[int(token) for token in tokens] for tokens in row["tokens"]],
        "attention_mask": [[int(bit) for bit in bits] for bits in row["attention_mask"]],
    }


def _movers(attribution: str, loading_mode: str, changes: Sequence[Change]) -> tuple[str, ...]:
    """Name the packages that may have moved a side: its own if that changed, else all that did."""
    port = LOADING_MODES[loading_mode].port
    own = "transformers" if port == "transformers" or attribution != "port" else "transformer-lens"
    if attribution == "port" and port != "transformers":
        own = "transformer-lens"
    named = [str(change) for change in changes if change.name == own]
    main = ("torch", "transformers", "transformer-lens")
    return tuple(named or [str(c) for c in changes if c.name in main] or map(str, changes))
