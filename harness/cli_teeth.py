"""The commands `harness teeth` and `harness quiet`: faults that are caught, and false alarms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.case import DEFAULT_DTYPES, EXACT, SYNTHETIC
from harness.cli_progress import progress_bar, terminal
from harness.errors import SelectionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from harness.teeth.exam import Asked

_WIDTH = 110
_SEEDS_ELSEWHERE = 2
_NAMED = ("torch", "transformers", "transformer-lens")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(teeth)
    app.command()(quiet)


def teeth(
    *,
    family: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    mode: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    dtype: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="only faults of this kind")
    ] = None,
    every: Annotated[
        bool, typer.Option(help="plant every fault in every cell, not each tenth")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="processes")] = 1,
    out: Annotated[Path, typer.Option(help="write every finding to this parquet file")] = Path(
        "reports/runs/teeth.parquet"
    ),
) -> None:
    """Plant every fault of the bank in the ports of the default families; say what is caught.

    Exit code 0: in exact mode every one is, and 95 % of them at the site stated; 1: not so;
    2: the question could not be asked.
    """
    from harness.report.scores import is_good, not_green, score_table, sums, survivors
    from harness.teeth.bank import parts_of

    parts = parts_of(
        families=family or (),
        modes=mode or (),
        dtypes=dtype or DEFAULT_DTYPES,
        kinds=kind or (),
        every=every,
    )
    findings = _examined(parts, jobs)
    if findings.empty:
        message = "no fault was planted: each port of the selection refuses; next: harness run"
        raise SelectionError(message)
    out.parent.mkdir(parents=True, exist_ok=True)
    findings.to_parquet(out)
    console = terminal(width=_WIDTH, highlight=False)
    console.print(score_table(findings))
    for line in (*sums(findings), *not_green(findings), *survivors(findings, dtype=EXACT)):
        print(line)
    print(_measured_with())
    print(f"rows: {out}")
    raise typer.Exit(0 if is_good(findings) else 1)


def quiet(
    *,
    family: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    dtype: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="times that each cell is asked")] = 20,
    also: Annotated[
        str, typer.Option(metavar="SPEC", help="an environment that is asked too, with two seeds")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="processes")] = 1,
    out: Annotated[Path, typer.Option(help="write every verdict to this parquet file")] = Path(
        "reports/runs/quiet.parquet"
    ),
) -> None:
    """Ask clean cells again and again with other prompts; say how often one is red.

    Exit code 0: none is; 1: some is; 2: the question could not be asked.
    """
    import pandas as pd

    from harness.report.scores import alarms, not_asked, rate
    from harness.teeth.bank import quiet_parts

    parts = quiet_parts(families=family or (), dtypes=dtype or DEFAULT_DTYPES, seeds=seeds)
    verdicts = _examined(parts, jobs)
    if also:
        verdicts = pd.concat([verdicts, _elsewhere(also, verdicts)], ignore_index=True)
    if (verdicts.verdict == "unavailable").all():
        message = "no cell of the selection is clean, so that none was asked; next: harness run"
        raise SelectionError(message)
    out.parent.mkdir(parents=True, exist_ok=True)
    verdicts.to_parquet(out)
    terminal(width=_WIDTH, highlight=False).print(rate(verdicts))
    red = list(alarms(verdicts))
    for line in (*not_asked(verdicts), *red):
        print(line)
    print(_measured_with())
    print(f"rows: {out}")
    raise typer.Exit(1 if red else 0)


def _measured_with() -> str:
    """Say on which day, and with which versions."""
    from harness.provenance import gather

    here = gather()
    versions = ", ".join(f"{name} {here['packages'][name]}" for name in _NAMED)
    return f"measured {here['started'][:10]} with {versions}, on {here['cpu']}"


def _elsewhere(spec: str, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Ask the cells that were clean here in another environment, on the bank and drawn prompts."""
    import dataclasses
    import tempfile

    import pandas as pd

    from harness.measure.question import ask, cell_of
    from harness.teeth.quiet import DRAWN, verdicts_in
    from harness.versions.measuring import measure_in, subject_of

    console = terminal(stderr=True, highlight=False)
    subject = subject_of(spec, progress=lambda words: console.print(words, markup=False))
    clean = verdicts[verdicts.verdict != "unavailable"]
    rows = clean.assign(checkpoint=SYNTHETIC, device="cpu", probe=None).to_dict("records")
    cells = dict.fromkeys(map(cell_of, rows))
    found = []
    for seed in range(_SEEDS_ELSEWHERE if cells else 0):
        question = ask(cells, drawn=DRAWN, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            file, run = Path(folder, "question.json"), Path(folder, "run")
            question.write(file)
            console.print(f"{subject}: {len(question.cells)} cells with seed {seed}")
            measure_in(subject, file, run, progress=lambda _: None)
            found += verdicts_in(run, environment=str(subject), seed=seed)
    if all(each.verdict == "unavailable" for each in found):
        message = f"{subject} measured none of the {len(cells)} clean cells; next: name another"
        raise SelectionError(message)
    return pd.DataFrame([dataclasses.asdict(each) for each in found])


def _examined(parts: Sequence[Asked], jobs: int) -> pd.DataFrame:
    """Examine all parts, and show how far it is."""
    from harness.teeth.exam import examined

    with progress_bar() as progress:
        task = progress.add_task("", total=len(parts))

        def done(part: object) -> None:
            progress.update(task, advance=1, description=str(part))

        return examined(parts, jobs=jobs, done=done)
