"""A run in words: the message of a failure, the table, what was not measured."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from rich.console import Console
from rich.table import Table

from harness.case import BY_PROCESSING, LOADING_MODES
from harness.record import (
    RED,
    VERDICTS,
    asked_relation,
    read_cells,
    read_controls,
    read_deltas,
    read_prompts,
    read_run,
)
from harness.report.characters import printable
from harness.report.marks import (
    MARKS,
    forced_words,
    name_of,
    named_families,
    next_lines,
    part_words,
    tokens_of,
)
from harness.report.probes import KEY as PROBE_KEY
from harness.report.probes import probe_message, probe_table

if TYPE_CHECKING:
    from pathlib import Path


Row = Mapping[str, Any]

_WIDTH: Final = 150
_KEY: Final = (
    "numbers: worst error ratio in float32 and bfloat16 of the green cells; "
    "≤ the worst rel_l2 in true float64; in brackets: delegated, the reference's own code and no "
    "evidence. ✗ cells fail; known: a limitation says so; –: the port refuses"
)
_SHORT: Final = {
    "bridge": "bridge",
    "bridge_compat": "compat",
    "bridge_compat_no_processing": "compat\nno_proc",
    "bridge_fold_ln": "fold_ln",
    "bridge_center_writing_weights": "center\nwriting",
    "bridge_center_unembed": "center\nunembed",
    "bridge_fold_value_biases": "fold\nv_bias",
    "bridge_refactor_factored_attn_matrices": "refactor\nattn",
    "hf_sdpa": "hf\nsdpa",
}


def failure_message(cell: Row, deltas: Sequence[Row], prompts: Sequence[Row]) -> str:
    """Say in four parts what is wrong with a cell that is not green: found, allowed, next."""
    name = name_of(cell)
    again = next_lines(cell)
    if cell["first_prompt_id"] is None:  # also where it raised before the failure was described
        return f"{cell['verdict']} [{name}]\n  found:   {cell['reason']}\n{again}"
    if cell["probe"] is not None:
        return probe_message(cell, deltas, prompts)
    failing = [row for row in deltas if row["verdict"] == "fail"]
    first = next(
        row
        for row in failing
        if row["site"] == cell["first_site"] and row["prompt_id"] == cell["first_prompt_id"]
    )
    sites = {row["site"] for row in failing}
    prompt = next(row for row in prompts if row["prompt_id"] == cell["first_prompt_id"])
    return "\n".join(
        (
            f"{first['site']}: port differs from reference [{name}]",
            f"  found:   {_found(first)}",
            f"  allowed: {first['bound']:g} (harness/bounds.py says where it comes from)",
            f"  sense:   compared as {first['relation']}; {cell['tightest_relation']}",
            (
                f"  first:   the first of {len(sites)} failing sites in forward order, "
                f"of {cell['sites_compared']} compared; all earlier ones agree"
            ),
            f"  prompt:  {tokens_of(prompt)}",
            f"  reason:  {cell['reason']}",
            again,
        )
    )


def _found(row: Row) -> str:
    where = f"max |Δ| {row['max_abs']:.2g} at [{row['worst_index']}]"
    if row["dtype"] == "exact":
        return f"rel_l2 {row['rel_l2']:.2g} in true float64, {where}"
    return (
        f"error ratio {row['error_ratio']:.3g} (port {row['port_error']:.2g}, "
        f"reference {row['reference_error']:.2g}, typically {row['typical_error']:.2g}, "
        f"against the float64 oracle), {where}"
    )


def print_run(run: Path, *, write: Callable[[str], Any], messages: bool = False) -> None:
    """Print a run: its tables, the failures if asked for, and what was not measured."""
    write = _plain(write)
    # Rows of a merged run name the shard that measured them; what is next is asked of this run.
    described, cells = read_run(run), read_cells(run).assign(run_id=run.name)
    compared, probed = cells[cells.probe.isna()], cells[cells.probe.notna()]
    for part, table_of, key in ((compared, _matrix, _KEY), (probed, probe_table, PROBE_KEY)):
        if not part.empty:
            for line in rendered(table_of(part)).splitlines():
                write(line.rstrip())
            write(key)
    if messages:
        red = list(cells[cells.verdict.isin(RED)].cell_id)
        deltas, prompts = read_deltas(run, cell_id=red), read_prompts(run, cell_id=red)
        for _, cell in cells[cells.verdict.isin(RED)].iterrows():
            write("")
            write(message_of(cell, deltas, prompts))
    write("")
    write(_counts(cells))
    for reason, group in cells[cells.verdict == "unavailable"].groupby("reason"):
        write(f"NOT MEASURED, {len(group)} cells: {reason} [{_names(group)}]")
    for _, cell in cells[cells.verdict.isin(RED)].iterrows():
        known_where = isinstance(cell.first_site, str)
        where = f" at {cell.first_site}" if known_where else ""
        reason = "" if known_where else f": {str(cell.reason).splitlines()[0][:200]}"
        write(f"{str(cell.verdict).upper()} {cell.cell_id}{where}{reason}")
    _write_end(run, described, len(cells), write=write)


def _plain(write: Callable[[str], Any]) -> Callable[[str], Any]:
    """Give what writes without control characters: rows of somebody else's steer no terminal."""
    return lambda line: write(printable(line))


def _write_end(
    run: Path, described: Mapping[str, Any], cells: int, *, write: Callable[[str], Any]
) -> None:
    """Print the last lines of a run: its controls, where it lies, and what it is no measure of."""
    controls = read_controls(run)
    if not controls.empty:
        write(f"{len(controls)} controls planted, {int(controls.caught.sum())} caught")
    write(f"rows: {run}")
    if (relation := asked_relation(described)) != BY_PROCESSING:
        write(f"FORCED: {forced_words(relation)}")
    if told := part_words(described, cells):
        write(told)


def message_of(cell: pd.Series, deltas: pd.DataFrame, prompts: pd.DataFrame) -> str:
    """Give the failure message of a stored cell."""
    own = deltas[deltas.cell_id == cell.cell_id].to_dict("records")
    asked = prompts[prompts.cell_id == cell.cell_id].to_dict("records")
    plain = {str(name): value for name, value in cell.items() if not pd.isna(value)}
    return failure_message({**dict.fromkeys(map(str, cell.index)), **plain}, own, asked)


def _counts(cells: pd.DataFrame) -> str:
    counted = cells.verdict.value_counts()
    parts = [f"{counted[name]} {name}" for name in VERDICTS if counted.get(name, 0)]
    green = cells[cells.probe.isna() & (cells.verdict == "pass")]
    delegated = int(_is_delegated(green).sum())
    if delegated:
        parts[0] += f" ({delegated} of them delegated: the reference's own code, no evidence)"
    compared = int(cells.sites_compared.sum())
    through = int(cells.sites_passed_through.sum())
    return (
        f"{len(cells)} cells: {', '.join(parts)}; {compared} sites compared or put to probes, "
        f"of these {compared - through} computed by the port's own code; "
        f"{int(cells.sites_missing.sum())} sites not to be had"
    )


def _is_delegated(cells: pd.DataFrame) -> pd.Series:
    """Say of comparisons whether the reference's own code computed all that was compared."""
    return cells.sites_passed_through == cells.sites_compared


def _names(group: pd.DataFrame) -> str:
    names = sorted(set(group.family.astype(str) + " · " + group.loading_mode.astype(str)))
    few = 6
    return ", ".join(names[:few]) + (f", and {len(names) - few} more" if len(names) > few else "")


def _matrix(cells: pd.DataFrame) -> Table:
    there = set(cells.loading_mode)
    modes = [mode for mode in LOADING_MODES if mode in there]
    modes += sorted(there.difference(LOADING_MODES))  # of plugged ports
    table = Table(title="family × loading mode", pad_edge=False, collapse_padding=True)
    table.add_column("family")
    for mode in modes:
        table.add_column(_SHORT.get(mode, mode), justify="right")
    for name, of_family in cells.groupby(named_families(cells)):
        by_mode = {mode: of_family[of_family.loading_mode == mode] for mode in modes}
        table.add_row(str(name), *(_entry(group) for group in by_mode.values()))
    return table


def _entry(cells: pd.DataFrame) -> str:
    """Give a table entry: the worst of the cells that passed, then how many did not.

    Delegated ones, which are no evidence, count only where there is no other, in brackets.
    """
    passed = cells[cells.verdict == "pass"]
    own = passed[~_is_delegated(passed)]
    form = "{}" if len(own) else "({})"
    passed = own if len(own) else passed
    low = passed[passed.dtype != "exact"].worst_error_ratio
    exact = passed[passed.dtype == "exact"].worst_rel_l2
    parts = []
    if len(low):
        parts.append(form.format(f"{low.max():.2g}"))
    elif len(exact):
        parts.append(form.format(f"≤{exact.max():.0e}"))
    for verdict, mark in MARKS.items():
        if number := int((cells.verdict == verdict).sum()):
            parts.append(f"{mark}{number}")
    unavailable = int((cells.verdict == "unavailable").sum())
    if unavailable:
        parts.append(f"–{unavailable}" if parts else "–")
    return " ".join(parts)


def rendered(table: Table) -> str:
    """Give a table as the lines of a terminal of a fixed width, without colours."""
    console = Console(file=io.StringIO(), width=_WIDTH, record=True, markup=False)
    console.print(table)
    return console.export_text()


def logits_table(deltas: pd.DataFrame) -> Table:
    """Give the logits' differences per case and mode, before and after the relation.

    The largest values over the prompts; the mean difference is that of the signed values.
    """
    table = Table(title="logits: port against reference, before and after the relation")
    for name in ("case", "loading mode", "dtype", "relation"):
        table.add_column(name, no_wrap=True)
    for name in ("mean Δ", "std port", "std reference", "max |Δ|", "shift taken out"):
        table.add_column(name, justify="right")
    table.add_column("max |Δ| after", justify="right")
    table.add_column("mean |Δ| after", justify="right")
    logits = deltas[deltas.site == "logits"].assign(
        mean_delta=lambda rows: rows.mean_port - rows.mean_reference
    )
    keys = ["family", "variant", "checkpoint", "loading_mode", "dtype", "relation"]
    for key, rows in logits.groupby(keys, observed=True, sort=False):
        family, variant, checkpoint, mode, dtype, relation = map(str, key)
        short = checkpoint.partition(":")[2]
        case = f"{family}@{short}" if short else f"{family}-{variant}"
        largest = max(rows.mean_delta, key=abs)
        table.add_row(
            case,
            mode,
            dtype,
            relation,
            f"{largest:.2e}",
            f"{rows.std_port.max():.4f}",
            f"{rows.std_reference.max():.4f}",
            f"{rows.raw_max_abs.max():.2e}",
            f"{rows.shift_abs.max():.2e}",
            f"{rows.max_abs.max():.2e}",
            f"{rows.mean_abs.max():.2e}",
        )
    return table


def quantiles_table(deltas: pd.DataFrame) -> Table:
    """Give the distribution of what is judged, over the rows of passing cells, by dtype.

    Probes have rows of their own; of what may not differ by one bit there is no distribution.
    """
    shares = (0.5, 0.9, 0.99, 0.999, 1.0)
    table = Table(
        title="what is judged: rel_l2 in exact mode, else error ratio ÷ chance factor",
        min_width=_WIDTH // 2 + 20,
    )
    for name in ("dtype", "rows", *(f"{share:.1%}" for share in shares), "bound"):
        table.add_column(name, justify="right", no_wrap=True)
    deltas = deltas[deltas.bound > 0]
    special = deltas.loading_mode.astype(str).str.contains("refactor").map({True: ", refactored"})
    special = special.fillna("").where(deltas.probe.isna(), ", probes")
    for kind, part in deltas.groupby(special):
        for dtype, rows in part.groupby("dtype", observed=True):
            values = rows.rel_l2 if dtype == "exact" else rows.error_ratio / rows.chance_factor
            found = [f"{values.quantile(share):.2g}" for share in shares]
            allowed = f"{(rows.bound / rows.chance_factor).max():g}"
            table.add_row(f"{dtype}{kind}", str(len(rows)), *found, allowed)
    return table
