"""The command `harness`. Thin: it finds things, calls the rooms, and gives exit codes.

0: nothing is worse; 1: something is; 2: the question could not be asked.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from harness import (
    cli_cache,
    cli_compatibility,
    cli_convert,
    cli_coverage,
    cli_explain,
    cli_gate,
    cli_history,
    cli_init,
    cli_merge,
    cli_newer,
    cli_pack,
    cli_report,
    cli_search,
    cli_shrink,
    cli_teeth,
)
from harness.case import BY_PROCESSING
from harness.cli_names import RUNS, check_cell, found_run
from harness.cli_progress import terminal
from harness.errors import HarnessError, UsageError
from harness.selection import checked_relation, option_of, selection_of
from harness.sharding import shard_named
from harness.stopping import left_to_child
from harness.storing import cannot_write, is_of_storage
from harness.surroundings import HUB, INDEX, child_environment, without_secrets

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=__doc__,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # whose import alone takes as long as all others
)

cli_cache.register(app)
cli_gate.register(app)
cli_search.register(app)
cli_coverage.register(app)
cli_compatibility.register(app)
cli_convert.register(app)
cli_explain.register(app)
cli_history.register(app)
cli_init.register(app)
cli_merge.register(app)
cli_newer.register(app)
cli_pack.register(app)
cli_report.register(app)
cli_shrink.register(app)
cli_teeth.register(app)

_PYTEST_FAILED: Final = 1
_PYTEST_BROKE: Final = 3
_PYTEST_NOTHING: Final = 5
_RESTARTS: Final = 100
"""How many workers may die: then it is no cell's doing. At four a worker, as pytest-xdist has it, a
kernel that is broken for one dtype would end a run of thousands of cells."""

Names = Annotated[list[str] | None, typer.Option(metavar="NAME")]


@app.command()
def run(  # noqa: PLR0917 - typer makes options of all of them
    family: Names = None,
    variant: Names = None,
    mode: Names = None,
    dtype: Names = None,
    device: Names = None,
    checkpoint: Names = None,
    probe: Names = None,
    profile: Names = None,
    prompts: Annotated[int, typer.Option(help="prompts drawn beside the bank")] = 3,
    prompt_seed: Annotated[str, typer.Option(help="seed of these, or `today`")] = "0",
    out: Annotated[Path, typer.Option(help="folder of runs")] = RUNS,
    jobs: Annotated[str, typer.Option(help="worker processes, or `auto`")] = "1",
    resume: Annotated[Path | None, typer.Option(help="finish this run")] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="the i-th of n parts, for harness merge; no gate then"),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="who measures: local, this machine; ray, the nodes of a cluster")
    ] = "local",
    address: Annotated[
        str, typer.Option(help="of the Ray cluster: auto, host:port, or local for one of its own")
    ] = "auto",
    rows: Annotated[
        str | None,
        typer.Option(metavar="URL", help="where nodes write rows; by default the run's folder"),
    ] = None,
    cell_timeout: Annotated[
        float | None, typer.Option(metavar="S", help="a cell that takes longer is an error [3600]")
    ] = None,
    cases: Annotated[Path, typer.Option(help="folder or file of cases")] = Path("cases"),
    trust_remote_code: cli_gate.Trusted = None,
    baseline: Annotated[
        Path | None, typer.Option(help="gate against it; by default reports/baselines/PROFILE")
    ] = None,
    relation: Annotated[
        str, typer.Option(help="`equal` forces every site to be compared as it is; no gate then")
    ] = BY_PROCESSING,
    keyword: Annotated[str, typer.Option("-k", help="pytest's own selection")] = "",
) -> None:
    """Measure and judge the matrix, as `pytest CASES` does, then gate it against the baseline."""
    from harness.record import asked_relation, read_run
    from harness.report.marks import forced_words

    if not cases.exists():
        message = f"no {cases} here; run this where your cases are, or give --cases"
        raise UsageError(message)
    axes = {
        "family": family,
        "variant": variant,
        "mode": mode,
        "dtype": dtype,
        "device": device,
        "checkpoint": checkpoint,
        "probe": probe,
        "profile": profile,
    }
    selection = cli_gate.checked_selection(**axes)
    checked_relation(relation)
    if shard is not None:
        shard_named(shard)
    name = f"{dt.datetime.now(dt.timezone.utc):%Y%m%dT%H%M%S}-{os.getpid()}"
    folder = found_run(resume) if resume else (out / name).resolve()
    begun = relation
    if resume:
        described = read_run(folder)
        begun, selection = asked_relation(described), selection_of(described)
    accepted = cli_gate.accepted_baseline(baseline, selection.profiles)
    arguments = [str(cases), "-q", f"--out={out}", f"--run={name}", f"--prompts={prompts}"]
    arguments += [
        f"{option_of(axis)}={value}" for axis, named in axes.items() for value in named or ()
    ]
    arguments += [f"--prompt-seed={prompt_seed}", f"--relation={relation}"]
    # What was not measured is told by reason, whatever pytest is set to say of each skip.
    arguments += ["-rfE", "-p", "no:cacheprovider"]
    # One worker, too: a cell that kills it is an error, and the run goes on.
    local = executor == "local" or jobs != "1"
    arguments += ["-n", jobs, f"--max-worker-restart={_RESTARTS}"] if local else []
    arguments += [f"--resume={folder}"] if resume else []
    arguments += [f"--shard={shard}"] if shard is not None else []
    arguments += _of_cluster(executor, address, rows)
    arguments += [] if cell_timeout is None else [f"--cell-timeout={cell_timeout}"]
    arguments += ["-k", keyword] if keyword else []
    arguments += [f"--trust-remote-code={case}" for case in trust_remote_code or ()]
    # A process of its own, so that pytest can watch the plugin being imported.
    command = [sys.executable, "-m", "pytest", *arguments]
    # The driver of a cluster reads rows at a URL, for which it may need any cloud's variables.
    seen = child_environment(keep=("*",) if executor != "local" else (*HUB, *INDEX))
    with left_to_child():
        code = subprocess.run(command, check=False, env=seen).returncode  # noqa: S603 - no shell
    _check_measured(code)
    if begun != BY_PROCESSING:
        print(f"not gated: {forced_words(begun)}")
    elif "shard" in read_run(folder):
        print("not gated: a shard alone; next: harness merge, then harness gate --candidate RUN")
    elif accepted is None:
        print(f"not gated: {cli_gate.no_baseline(selection.profiles)}")
    else:
        whole = not (keyword or read_run(folder).get("asked", {}).get("keyword"))
        gated = cli_gate.gate_run(accepted, folder, selection, whole=whole)
        code = max(code, gated)
    raise typer.Exit(code)


def _check_measured(code: int) -> None:
    """Say why nothing was measured, or not all of it, by pytest's exit code.

    Raises:
        UsageError: nothing was to be measured, or pytest broke.
        typer.Exit: it was not; pytest has said why.
    """
    if code == _PYTEST_NOTHING:
        message = (
            "nothing was measured: the selection is empty, or the run is whole already, "
            "or no cell of it can be measured here, or there are fewer cases than shards"
        )
        raise UsageError(message)
    if code == _PYTEST_BROKE:
        message = (
            "pytest broke, or a worker ended before it had begun: see above. No finished cell is "
            "lost; next: run it again, with --resume RUN if a run's folder is there"
        )
        raise UsageError(message)
    if code not in {0, _PYTEST_FAILED}:
        raise typer.Exit(2)


def _of_cluster(executor: str, address: str, rows: str | None) -> list[str]:
    """Give pytest's options for a cluster; none where this machine measures."""
    if executor == "local":
        given = {"--address": address != "auto", "--rows": rows}
        if odd := [name for name, value in given.items() if value]:
            message = f"{', '.join(odd)}: only a cluster has it; next: add --executor ray"
            raise UsageError(message)
        return []
    found = [f"--executor={executor}", f"--address={address}"]
    return found + ([] if rows is None else [f"--rows={rows}"])


@app.command()
def replay(
    run: Annotated[Path, typer.Argument(help="a run's folder or name")],
    cell: Annotated[str, typer.Argument(help="the cell's id")],
) -> None:
    """Measure one stored cell again, on its stored prompts, and compare the numbers."""
    from harness.measure.replay import replay_cell
    from harness.report.words import failure_message

    again = replay_cell(found_run(run), cell)
    console = terminal()
    if again.result.row["first_site"] or not again.result.deltas:
        console.print(
            failure_message(again.result.row, again.result.deltas, again.result.prompts),
            markup=False,
            highlight=False,
        )
    console.print(again.words, markup=False, highlight=False)
    raise typer.Exit(0 if again.same else 1)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="a run's folder or name")] = Path("latest"),
    cell: Annotated[str, typer.Argument(help="one cell of it, by its id")] = "",
    *,
    messages: Annotated[bool, typer.Option(help="with the message of each failure")] = False,
) -> None:
    """Print a run's table, its failures, and what was not measured; or one cell over its layers."""
    from harness.record import finished_cells
    from harness.report.layers import print_cell
    from harness.report.words import print_run

    console = terminal(highlight=False, soft_wrap=True)
    folder = found_run(run)

    def write(line: str) -> None:
        console.print(line, markup=False)

    if cell:
        check_cell(cell, sorted(finished_cells(folder)), run=folder)
        print_cell(folder, cell, write=write)
    else:
        print_run(folder, write=write, messages=messages)


@app.command()
def logits(
    run: Annotated[Path, typer.Argument(help="a run's folder or name")] = Path("latest"),
    family: Names = None,
    checkpoint: Names = None,
    mode: Names = None,
    dtype: Names = None,
) -> None:
    """Print how logits differ per loading mode, before and after the relation is taken out."""
    from harness.record import read_deltas
    from harness.report.words import logits_table

    asked = {"family": family, "checkpoint": checkpoint, "loading_mode": mode, "dtype": dtype}
    axes: dict[str, Any] = {axis: names for axis, names in asked.items() if names}
    deltas = read_deltas(found_run(run), **axes)
    if deltas.empty:
        message = "nothing in the run fits this selection"
        raise UsageError(message)
    terminal(width=190).print(logits_table(deltas))


@app.command()
def bounds(
    run: Annotated[Path, typer.Argument(help="a run's folder or name")] = Path("latest"),
) -> None:
    """Print the distribution of what is judged over the passing cells, beside its bound."""
    from harness.record import read_cells, read_deltas
    from harness.report.words import quantiles_table

    folder = found_run(run)
    cells = read_cells(folder)
    clean = cells[cells.verdict == "pass"].cell_id
    deltas = read_deltas(folder)
    terminal(width=110).print(quantiles_table(deltas[deltas.cell_id.isin(clean)]))


@app.command()
def pin(repo_id: Annotated[str, typer.Argument(help="a model's id on the hub")]) -> None:
    """Look up today's commit of a hub model and print the case to paste."""
    from harness.models.checkpoints.hub import pin as look_up

    print(look_up(repo_id))


def main() -> None:
    """Run the command; errors that the harness raises on purpose are one sentence and exit 2."""
    try:
        app()
    except HarnessError as error:
        print(f"harness: {without_secrets(str(error))}", file=sys.stderr)
        raise SystemExit(2) from error
    except OSError as error:
        if not is_of_storage(error):
            raise
        print(
            f"harness: {without_secrets(cannot_write('what was asked for', error))}",
            file=sys.stderr,
        )
        raise SystemExit(2) from error
