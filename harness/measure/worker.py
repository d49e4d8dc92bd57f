"""The measuring worker: runs in any environment with torch, transformers and a port, writes rows.

    python -I bootstrap.py harness.measure.worker imports EXPECTED.json
    python -I bootstrap.py harness.measure.worker measure EXPECTED.json QUESTION.json RUN

EXPECTED names the version of each package that was asked for. A worker that would measure
something else ends at once, since every number of it would be about another question.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.case import Cell
    from harness.models.checkpoints import Checkpoint
    from harness.models.ports import Runner

MODULES: Final = {
    "torch": "torch",
    "transformers": "transformers",
    "transformer-lens": "transformer_lens",
}
WRONG: Final = 3
"""Exit code of a worker whose environment is not the one that was asked for."""
REFUSED: Final = 2
"""Exit code of a worker that could not be asked."""


def main(arguments: list[str]) -> int:
    """Do what the arguments say; give the exit code."""
    task, expected_file, *rest = arguments
    expected: dict[str, str] = json.loads(Path(expected_file).read_text())
    wrong = what_is_wrong(expected)
    if wrong:
        sys.stderr.write(f"{wrong}\n")
        return WRONG
    failures = import_failures(expected)
    if task == "imports":
        sys.stdout.write(json.dumps(failures))
        return 0
    if task == "shrink":
        known, folder = rest
        shrink(json.loads(Path(known).read_text()), Path(folder))
        return 0
    question, run = rest
    try:
        measure(Path(question), Path(run), failures=failures)
    except HarnessError as error:  # said in words, which whoever started this passes on
        sys.stderr.write(f"{error}\n")
        return REFUSED
    return 0


def what_is_wrong(expected: dict[str, str]) -> str:
    """Say which package is here in another version, or from outside; nothing if all is right."""
    for package, version in expected.items():
        try:
            distribution = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            return f"{package} {version} was asked for, and is not in {sys.prefix}"
        if distribution.version != version:
            return f"{package} {version} was asked for, {distribution.version} is in {sys.prefix}"
        where = Path(str(distribution.locate_file(""))).resolve()
        if not where.is_relative_to(Path(sys.prefix).resolve()):
            return f"{package} was asked for in {sys.prefix}, and comes from {where}"
    return ""


def import_failures(expected: dict[str, str]) -> dict[str, str]:
    """Import each package; give what those say that do not import, by package."""
    failures = {}
    for package in expected:
        module = MODULES.get(package)
        if module is None:
            continue
        try:
            found = importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - whatever a release raises is the finding
            last = str(error).strip().splitlines() or [""]
            failures[package] = f"{type(error).__name__}: {last[-1]}"
            continue
        file = Path(str(found.__file__)).resolve()
        if not file.is_relative_to(Path(sys.prefix).resolve()):
            failures[package] = f"it is imported from {file}, outside {sys.prefix}"
    return failures


def shrink(known: list[list[str]], file: Path) -> None:
    """Make the shrunk checkpoint of each architecture that is not known; write what came of it.

    `known` are types and variants. An entry has the checkpoint's path and digest, or the reason
    why there is none.
    """
    from harness.errors import Unavailable  # noqa: PLC0415 - the harness needs torch
    from harness.models.architectures import architectures  # noqa: PLC0415 - the same
    from harness.models.checkpoints import shrunk  # noqa: PLC0415 - the same

    found: list[dict[str, str]] = []
    for each in architectures():
        if [each.model_type, each.variant] in known:
            continue
        entry = {"family": each.model_type, "variant": each.variant}
        try:
            made = shrunk.build(each.model_type, each.variant)
            entry |= {"path": str(made.path.resolve()), "digest": made.digest}
        except Unavailable as reason:
            entry["reason"] = str(reason)
        found.append(entry)
    file.write_text(json.dumps(found))


def measure(question_file: Path, run: Path, *, failures: dict[str, str]) -> None:
    """Measure every cell of a question that the run does not have yet, and write its rows.

    Raises:
        HarnessError: transformers or torch do not import: there is nothing to measure with.
    """
    for package in ("torch", "transformers"):
        if package in failures:
            message = f"{package} does not import: {failures[package]}"
            raise HarnessError(message)
    from harness.measure.kept import KeptPort  # noqa: PLC0415 - it needs torch
    from harness.measure.question import Question  # noqa: PLC0415 - it needs torch
    from harness.measure.references import References  # noqa: PLC0415 - the same
    from harness.measure.run import Plan, measure_cell  # noqa: PLC0415 - the same
    from harness.measure.writing import open_run, write_result  # noqa: PLC0415 - the same
    from harness.models.ports import load_port  # noqa: PLC0415 - the same
    from harness.record import finished_cells  # noqa: PLC0415 - the same

    question = Question.read(question_file)
    open_run(run, selection={}, plan={"question": question_file.name})
    references = References(question.checkpoint_of)

    def load(cell: Cell, checkpoint: Checkpoint) -> Runner:
        if cell.mode.port in {"bridge", "hooked"} and "transformer-lens" in failures:
            message = f"transformer_lens does not import: {failures['transformer-lens']}"
            raise HarnessError(message)
        return load_port(cell, checkpoint)

    port = KeptPort(load)
    done = finished_cells(run)
    for cell in question.cells:
        if cell.id in done:
            continue
        plan = Plan(
            prompts=question.prompts.get(cell.case.id, ()),
            shrink_seconds=0.0,
            lenient=True,
            exchange=question.exchange,
        )
        result: Any = measure_cell(
            cell, run_id=run.name, references=references, plan=plan, load=port
        )
        write_result(run, result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
