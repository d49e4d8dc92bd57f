"""What a stored cell found, as a person would ask: what differs, since where, in which sense, why.

Pure: rows in, one Explanation out. Words are made of it in `harness/report/explained.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from harness.case import BY_PROCESSING, EXACT, LOADING_MODES
from harness.judge.sides import records
from harness.record import asked_relation, read_cells, read_deltas, read_prompts, read_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Row = dict[str, Any]

EQUAL: Final = "equal"
LOGITS: Final = "logits"
SOFTMAX: Final = "softmax"
"""Why scores may be shifted: not by processing, but since the softmax behind takes it out."""
COMPATIBILITY: Final = "compatibility mode"
REFACTORED: Final = "refactor_factored_attn_matrices"

_CAUSES: Final = {"affine": "fold_ln", "offset": "fold_value_biases"}
_AXES: Final = ("family", "variant", "checkpoint", "device", "probe")
_DIFFER: Final = frozenset({"fail", "known"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sense:
    """Sites at which port and reference agree in one sense, for one reason.

    `because` is a flag of the loading mode's processing, or `softmax`. `before` is the largest
    |port - reference| with nothing taken out, `taken_out` what the relation takes, `after` what
    it leaves: None where another relation was forced, so that no row holds it.
    """

    relation: str
    because: str
    sites: tuple[str, ...]
    before: float
    taken_out: float
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Localised:
    """What other cells of the run say of a difference: the same case, in other modes and dtypes.

    `clean` are the modes that agree, `alike` those that differ first at the same site. `brought_by`
    are the flags, or compatibility mode, that all of these have and no clean mode of the port has;
    it `needs_no_processing` if a mode without flags is among those alike, and the cell has some.
    `twin` is the verdict in exact mode: empty if it was not asked, or the cell is exact itself.
    """

    clean: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    brought_by: tuple[str, ...] = ()
    needs_no_processing: bool = False
    twin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is to be said of a cell.

    `cell` is its row; `forced` the relation that it was forced to, or `processing`. `by_reason`
    are sites that differ as they are, or as they were forced, and agree in a sense that the mode's
    processing gives; `failing` the sites at which a row fails in that sense too; `equal` the number
    of the others. `first` is the failing row to look at and `earlier` the sites before it, of which
    those in `earlier_failing` differ by themselves. `kl_nats` and `top1_agreement` are the worst of
    the logits. `in_other_bases` says that queries, keys and values cannot be compared one by one.
    """

    run: str
    cell: Row
    forced: str
    by_reason: tuple[Sense, ...] = ()
    failing: tuple[str, ...] = ()
    equal: int = 0
    checks: tuple[str, ...] = ()
    first: Row | None = None
    earlier: int = 0
    earlier_failing: tuple[str, ...] = ()
    kl_nats: float | None = None
    top1_agreement: float | None = None
    in_other_bases: bool = False
    localised: Localised = Localised()
    prompt: Row | None = None
    commands: tuple[tuple[str, str], ...] = ()

    @property
    def is_forced(self) -> bool:
        """Say whether the run was made in another sense than its modes' processing gives."""
        return self.forced != BY_PROCESSING

    @property
    def is_harmless(self) -> bool:
        """Say whether the cell fails for nothing but the relation that it was forced to."""
        return self.is_forced and self.cell["verdict"] == "fail" and not self.failing


def explain_stored(run: Path, cell_id: str, *, name: str) -> Explanation:
    """Explain a cell of a run that it has; `name` is what the run is called in commands.

    Raises:
        RunFolderError: the run cannot be read.
    """
    cells = records(read_cells(run))
    cell = next(row for row in cells if row["cell_id"] == cell_id)
    return explain(
        cell,
        run=name,
        cells=cells,
        deltas=records(read_deltas(run, cell=cell_id)),
        prompts=records(read_prompts(run, cell=cell_id)),
        forced=asked_relation(read_run(run)),
    )


def explain(
    cell: Row,
    *,
    run: str,
    cells: Sequence[Row] = (),
    deltas: Sequence[Row] = (),
    prompts: Sequence[Row] = (),
    forced: str = BY_PROCESSING,
) -> Explanation:
    """Explain a cell from its row, the rows of all cells of the run, its deltas and its prompts."""
    sites = in_order(deltas)
    failing = failing_sites(deltas)
    by_reason = senses(deltas, sites=sites, failing=failing, mode=str(cell["loading_mode"]))
    faults = [site for site in sites if site in failing]
    site = cell["first_site"] if forced == BY_PROCESSING or not faults else faults[0]
    first = first_row(deltas, site=site, prompt_id=cell["first_prompt_id"])
    before = sites[: sites.index(first["site"])] if first else []
    logits = [row for row in deltas if row["site"] == LOGITS and row["kl_nats"] is not None]
    mode = LOADING_MODES.get(str(cell["loading_mode"]))
    refactored = mode is not None and mode.processing.refactor_factored_attn_matrices
    told = {site for sense in by_reason for site in sense.sites}
    return Explanation(
        run=run,
        cell=cell,
        forced=forced,
        by_reason=by_reason,
        failing=tuple(faults),
        equal=sum(site not in told and site not in failing for site in sites),
        checks=tuple(dict.fromkeys(row["check"] for row in deltas if row["check"])),
        first=first,
        earlier=len(before),
        earlier_failing=tuple(site for site in before if site in failing),
        kl_nats=max((row["kl_nats"] for row in logits), default=None),
        top1_agreement=min((row["top1_agreement"] for row in logits), default=None),
        in_other_bases=refactored and bool(cell["missing_sites"]) and cell["probe"] is None,
        localised=localised(cell, cells),
        prompt=next(
            (row for row in prompts if first and row["prompt_id"] == first["prompt_id"]), None
        ),
        commands=commands(cell, run=run, forced=forced, shifted=bool(by_reason)),
    )


def in_order(deltas: Iterable[Row]) -> list[str]:
    """Give the sites in forward order: that of the prompts' rows, the fullest prompt first."""
    by_prompt: dict[str, dict[str, None]] = {}
    for row in deltas:
        by_prompt.setdefault(row["prompt_id"], {})[row["site"]] = None
    fullest = sorted(by_prompt.values(), key=len, reverse=True)
    return list(dict.fromkeys(site for sites in fullest for site in sites))


def failing_sites(deltas: Iterable[Row]) -> frozenset[str]:
    """Name the sites at which a row fails, and not for the relation alone that was forced on it."""
    return frozenset(
        row["site"] for row in deltas if row["verdict"] == "fail" and row["agrees_as"] is None
    )


def senses(
    deltas: Iterable[Row], *, sites: Sequence[str], failing: frozenset[str], mode: str
) -> tuple[Sense, ...]:
    """Group the sites that agree in another sense than as they are, by reason; logits come first.

    Rows whose relation takes nothing out are not among them.
    """
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in deltas:
        relation = row["agrees_as"] or row["relation"]
        if relation != EQUAL and row["site"] not in failing:
            grouped.setdefault((because(row["site"], relation, mode), relation), []).append(row)
    found = []
    for (reason, relation), rows in grouped.items():
        named = {row["site"] for row in rows}
        forced = any(row["agrees_as"] is not None for row in rows)
        found.append(
            Sense(
                relation=relation,
                because=reason,
                sites=tuple(site for site in sites if site in named),
                before=max(row["raw_max_abs"] for row in rows),
                taken_out=max(row["shift_abs"] for row in rows),
                after=None if forced else max(row["max_abs"] for row in rows),
            )
        )
    found.sort(key=lambda sense: (LOGITS not in sense.sites, sites.index(sense.sites[0])))
    return tuple(found)


def because(site: str, relation: str, mode: str) -> str:
    """Say what makes a site agree in a relation: a flag of the mode's processing, or `softmax`."""
    if relation in _CAUSES:
        return _CAUSES[relation]
    if site == LOGITS:
        return "center_unembed"
    known = LOADING_MODES.get(mode)
    if site.endswith("attn_scores") or known is None:
        return SOFTMAX
    return "center_writing_weights"


def first_row(deltas: Iterable[Row], *, site: str | None, prompt_id: str | None) -> Row | None:
    """Give the failing row to look at: that of a site, on a prompt if it fails there."""
    rows = [row for row in deltas if row["verdict"] == "fail" and row["site"] == site]
    if named := [row for row in rows if row["prompt_id"] == prompt_id]:
        return named[0]
    return min(rows, key=lambda row: row["n_compared"], default=None)


def localised(cell: Row, cells: Iterable[Row]) -> Localised:
    """Say which modes of the same case agree, and which part of the mode the difference needs."""
    own = [row for row in cells if all(row[axis] == cell[axis] for axis in _AXES)]
    twin = ""
    if cell["dtype"] != EXACT:
        same = (row for row in own if row["loading_mode"] == cell["loading_mode"])
        twin = next((str(row["verdict"]) for row in same if row["dtype"] == EXACT), "")
    beside = [row for row in own if row["dtype"] == cell["dtype"]]
    clean = [str(row["loading_mode"]) for row in beside if row["verdict"] == "pass"]
    like = _DIFFER if cell["verdict"] in _DIFFER else {cell["verdict"]}
    alike = [
        str(row["loading_mode"])
        for row in beside
        if row["verdict"] in like and row["first_site"] == cell["first_site"]
    ]
    mode = str(cell["loading_mode"])
    plain = any(not flags(each) for each in _of_the_same_port(mode, alike))
    return Localised(
        clean=tuple(clean),
        alike=tuple(alike),
        brought_by=_brought_by(mode, clean=clean, alike=alike),
        needs_no_processing=plain and mode in LOADING_MODES and bool(flags(mode)),
        twin=twin,
    )


def _brought_by(mode: str, *, clean: Iterable[str], alike: Iterable[str]) -> tuple[str, ...]:
    """Name the parts of a mode that all modes alike have, and none that is clean."""
    without = [set(parts(each)) for each in _of_the_same_port(mode, clean)]
    if not without:
        return ()
    common = set(parts(mode)).intersection(*map(parts, _of_the_same_port(mode, alike)))
    return tuple(name for name in parts(mode) if name in common.difference(*without))


def _of_the_same_port(mode: str, others: Iterable[str]) -> list[str]:
    """Give those of other modes that load the port of a mode; none of a mode that is not known."""
    port = LOADING_MODES[mode].port if mode in LOADING_MODES else None
    return [each for each in others if each in LOADING_MODES and LOADING_MODES[each].port == port]


def parts(mode: str) -> tuple[str, ...]:
    """Name what a loading mode does to its model, in order: compatibility mode, and its flags."""
    named = [COMPATIBILITY] if LOADING_MODES[mode].compatibility else []
    return (*named, *flags(mode))


def flags(mode: str) -> tuple[str, ...]:
    """Name the flags of a loading mode's processing that are on."""
    return tuple(name for name, on in LOADING_MODES[mode].processing.flags().items() if on)


def commands(cell: Row, *, run: str, forced: str, shifted: bool) -> tuple[tuple[str, str], ...]:
    """Give the commands that show a cell again, each with what it does."""
    axes = {name: cell[name] for name in ("family", "variant", "checkpoint")}
    axes |= {"mode": cell["loading_mode"], "dtype": cell["dtype"]}
    axes |= {"device": cell["device"]} if cell["device"] != "cpu" else {}
    axes |= {"probe": cell["probe"] or "none"}
    anew = "harness run " + " ".join(f"--{name} {quote(value)}" for name, value in axes.items())
    again = f"harness replay {quote(run)} {quote(cell['cell_id'])}"
    found = [(again, "this cell again, on its stored prompts")]
    if forced != BY_PROCESSING:
        found.append((f"{anew} --relation {forced}", "anew, forced as this one"))
        return (*found, (anew, "anew, in its own sense"))
    found.append((anew, "anew"))
    if shifted and cell["probe"] is None and cell["verdict"] == "pass":
        found.append((f"{anew} --relation {EQUAL}", "anew, every site compared as it is"))
    return tuple(found)
