"""One cell examined: each fault planted, measured as any cell is, and taken away again."""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from harness.case import PROBE_DTYPES, Cell
from harness.errors import Unavailable
from harness.measure.outcome import Plan
from harness.measure.prompts import Vocabulary, bank
from harness.measure.references import References, numerics_of
from harness.measure.run import measure_cell
from harness.models.ports import load_port
from harness.record import RED
from harness.teeth.body import body_of
from harness.teeth.fault import Fault, NotPlantedError, as_it_is
from harness.teeth.flow import first_reached
from harness.teeth.operators import faults_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from harness.case import Case
    from harness.measure.outcome import CellResult
    from harness.models.ports import Runner
    from harness.teeth.fault import Plant

Result = Literal["caught", "elsewhere", "survived", "idle", "void", "raised", "not green"]

NO_FAULT: Final = Fault(kind="none", name="no fault", size="", site="logits", plant=as_it_is)

PROMPTS: Final = ("batch", "window+1", "past_window", "longest", "left_padding")
"""The prompts of the bank on which faults are judged; what these catch, all of it catches too."""

REFERENCE: Final = "hf_eager"
"""The mode that is not compared: it has no port to differ from."""

PROBED: Final = {
    REFERENCE: ("causality", "cached_decoding", "repeatability", "save_load"),
    "bridge": ("tokens",),  # its own `to_tokens`; the reference has none
}
"""The probes that are examined, by mode."""

SAMPLED_FROM: Final = 10
"""Of a cell's faults every tenth is planted, and one of each kind, unless all are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one fault in one cell.

    `expected` is the site that should be named, None where the cell compares none that it reaches;
    `found` the one that was. `result`: `caught` at the expected site, `elsewhere` at another;
    `survived` where the cell stayed green; `idle` where it did and even a harsh change moves no
    bit, so that the port does not read what was changed; `void` where nothing was changed, as the
    dtype does not hold it or the model is so already; `raised` where the cell broke off;
    `not green` where it is red without a fault, so that none was planted.
    """

    family: str
    variant: str
    loading_mode: str
    dtype: str
    probe: str | None
    kind: str
    fault: str
    amount: str
    site: str
    expected: str | None
    found: str | None
    result: Result
    words: str
    seconds: float


def examine(
    case: Case,
    dtype: str,
    modes: Iterable[str],
    *,
    kinds: frozenset[str] = frozenset(),
    every: bool = False,
) -> Iterator[Finding]:
    """Plant the bank's faults in a case's ports, one at a time, and say what became of each.

    Raises:
        RuntimeError: a port is not what it was once the faults are taken away.
    """
    references = References()
    for mode in modes:
        cell = Cell(case=case, loading_mode=mode, dtype=dtype)
        if mode != REFERENCE:
            yield from examine_cell(cell, references, kinds=kinds, every=every)
        if mode in PROBED and dtype in PROBE_DTYPES:
            yield from examine_probes(cell, references, kinds=kinds)


def examine_cell(
    cell: Cell,
    references: References,
    *,
    kinds: frozenset[str] = frozenset(),
    every: bool = False,
) -> Iterator[Finding]:
    """Examine one cell, of the kinds of faults given, or of all.

    Nothing comes of a port that refuses. Of a cell that is red without a fault, which hides what
    comes after it, one finding says so.
    """
    checkpoint = references.of(cell).checkpoint
    with numerics_of(cell.dtype):
        try:
            runner = load_port(cell, checkpoint)
        except Unavailable:
            return
    plan = bank_plan(checkpoint.config)
    examiner = Examiner(cell, references, runner, plan)
    if examiner.clean.verdict != "pass":
        yield examiner.not_green()
        return
    asked = [
        fault
        for fault in faults_of(body_of(runner))
        if fault.probe is None and (not kinds or fault.kind in kinds)
    ]
    for fault in asked if every else sampled(cell, asked):
        yield examiner.finding(fault)
    if _digests(examiner.measured(runner)) != _digests(examiner.clean):
        message = f"{cell}: the port is not what it was before the faults were planted"
        raise RuntimeError(message)


def examine_probes(
    cell: Cell, references: References, *, kinds: frozenset[str] = frozenset()
) -> Iterator[Finding]:
    """Examine a model's probes: plant each fault that one of them must see.

    Nothing comes of a port that refuses.
    """
    checkpoint = references.of(cell).checkpoint
    with numerics_of(cell.dtype):
        try:
            runner = load_port(cell, checkpoint)
        except Unavailable:
            return
    asked = PROBED[cell.loading_mode]
    faults = [fault for fault in faults_of(body_of(runner)) if fault.probe in asked]
    for fault in faults:
        if kinds and fault.kind not in kinds:
            continue
        probed = replace(cell, probe=fault.probe)
        examiner = Examiner(probed, references, runner, Plan(drawn=0, shrink_seconds=0.0))
        if examiner.clean.verdict == "pass":
            yield examiner.finding(fault)
        elif examiner.clean.verdict != "unavailable":
            yield examiner.not_green()


def bank_plan(config: dict[str, Any], names: Collection[str] = PROMPTS) -> Plan:
    """Give the plan of prompts of the bank, by name, for a checkpoint with this config."""
    prompts = bank(Vocabulary.of(config, padding=True))
    chosen = tuple(p for p in prompts if p.origin.removeprefix("bank:") in names)
    return Plan(prompts=chosen, shrink_seconds=0.0)


def sampled(cell: Cell, faults: Sequence[Fault]) -> Iterator[Fault]:
    """Give the faults that are planted in a cell: other ones in each, always the same."""
    kinds: set[str] = set()
    for fault in sorted(faults, key=lambda each: _place(cell, each)):
        if fault.kind not in kinds or _place(cell, fault) % SAMPLED_FROM == 0:
            kinds.add(fault.kind)
            yield fault


def _place(cell: Cell, fault: Fault) -> int:
    return zlib.crc32(f"{cell.id} {fault.kind} {fault}".encode())


class Examiner:
    """A cell with its port loaded: measures it clean, and with one fault at a time."""

    def __init__(self, cell: Cell, references: References, runner: Runner, plan: Plan) -> None:
        """Ask the cell the prompts of `plan`."""
        self.cell, self.references, self.runner, self.plan = cell, references, runner, plan
        self.known = references.of(cell).runner.sites

    @functools.cached_property
    def clean(self) -> CellResult:
        """Give what the cell gives without a fault."""
        return self.measured(self.runner)

    @functools.cached_property
    def compared(self) -> tuple[str, ...]:
        """Give the sites that the cell compares, in forward order."""
        return tuple(dict.fromkeys(row["site"] for row in self.clean.deltas))

    def measured(self, runner: Runner) -> CellResult:
        """Measure the cell as any other, with this runner for its port."""
        return measure_cell(
            self.cell,
            run_id="teeth",
            references=self.references,
            plan=self.plan,
            load=lambda *_: runner,
        )

    def finding(self, fault: Fault) -> Finding:
        """Plant a fault, measure, take it away, and say what became of it."""
        expected = first_reached(fault.site, self.compared, known=self.known)
        found, words, seconds = None, "", 0.0
        result: Result
        if fault.reads and fault.site not in self.compared:
            return self._told(fault, expected, None, "void", "the cell does not read that site")
        try:
            with fault.plant():
                given = self.measured(fault.reads(self.runner) if fault.reads else self.runner)
            seconds, found = given.row["seconds"], given.row["first_site"]
            result = self._result(fault, given, expected)
            words = str(given.row["reason"] or "")
        except NotPlantedError as reason:
            result, words = "void", str(reason)
        return self._told(fault, expected, found, result, words, seconds)

    def not_green(self) -> Finding:
        """Say that the cell is red without a fault, and why."""
        reason = str(self.clean.row["reason"])
        return self._told(NO_FAULT, None, self.clean.row["first_site"], "not green", reason)

    def _told(  # noqa: PLR0917 - what a finding is made of, in its order
        self,
        fault: Fault,
        expected: str | None,
        found: str | None,
        result: Result,
        words: str,
        seconds: float = 0.0,
    ) -> Finding:
        return Finding(
            family=self.cell.case.family,
            variant=self.cell.case.variant,
            loading_mode=self.cell.loading_mode,
            dtype=self.cell.dtype,
            probe=self.cell.probe,
            kind=fault.kind,
            fault=fault.name,
            amount=fault.size,
            site=fault.site,
            expected=expected,
            found=found,
            result=result,
            words=words,
            seconds=seconds,
        )

    def _result(self, fault: Fault, given: CellResult, expected: str | None) -> Result:
        if given.verdict in RED and given.row["first_site"] is None:
            return "raised"
        if given.verdict in RED:
            return "caught" if given.row["first_site"] == expected else "elsewhere"
        return "idle" if fault.harsh and self._moves_nothing(fault.harsh) else "survived"

    def _moves_nothing(self, harsh: Callable[[], Plant]) -> bool:
        try:
            with harsh():
                return _digests(self.measured(self.runner)) == _digests(self.clean)
        except NotPlantedError:
            return False


def _digests(result: CellResult) -> dict[str, int]:
    return {row["site"]: row["digest"] for row in result.fingerprints.get(result.cell.id, ())}
