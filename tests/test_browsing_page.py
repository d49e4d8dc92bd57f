"""Every snippet of docs/browsing.md, run in the page's order on real rows."""

import ast
import dataclasses
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness.case import Case, Cell
from harness.judge.gate import gate
from harness.judge.sides import read_side
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run, write_result
from harness.record import read_run, write_part, write_sealed
from harness.report.gates import write_gate

sys.path.append(str(Path(__file__).parent / "judge"))
from planting import SDPA, record, scaled

PAGE = Path(__file__).parents[1] / "docs/browsing.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def browsed(tmp_path, monkeypatch):
    """Give a folder with a run of which one cell differs, its control, and a gate of a fault."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "reports/runs/a"  # and `latest` points to it
    open_run(run, selection={}, plan={})
    references = References()
    plan = Plan(relation="equal", shrink_seconds=1.0)
    for mode, dtype in (("hf_sdpa", "exact"), ("bridge", "float32"), ("bridge_compat", "float32")):
        cell = Cell(case=Case(family="gpt2"), loading_mode=mode, dtype=dtype)
        write_result(run, measure_cell(cell, run_id="a", references=references, plan=plan))
    plain = Cell(case=Case(family="gpt2"), loading_mode="bridge_compat", dtype="exact")
    write_result(run, measure_cell(plain, run_id="a", references=references, plan=Plan()))
    for name, day in (("older", "2026-01-01"), ("a", "2026-01-03")):
        night = run.parent / name
        if night != run:
            shutil.copytree(run, night)
        described = read_run(night)
        write_sealed(night / "run.json", {**described, "started": f"{day}T03:17:00+00:00"})
    axes = {"run_id": "a", "cell_id": "c", "family": "gpt2", "port": "bridge", "dtype": "exact"}
    told = {"fault": "f", "expected_site": "s", "first_site": "s", "caught": True, "words": ""}
    write_part(run, "controls", "c", [{**axes, **told, "loading_mode": "bridge", "seconds": 0.1}])
    old, new = (
        read_side(record(tmp_path / name, SDPA, port=port))
        for name, port in (("old", lambda runner: runner), ("new", scaled(1e-3)))
    )
    new = dataclasses.replace(new, packages={**new.packages, "transformers": "99.0"})
    write_gate(gate(old, new, [cell.id for cell in SDPA]), tmp_path / "reports/runs/gate")


def last_value(snippet, names):
    """Run a snippet and give what its last line gives."""
    tree = ast.parse(snippet)
    *before, last = tree.body
    exec(compile(ast.Module(before, []), "browsing.md", "exec"), names)  # noqa: S102 - our own page
    assert isinstance(last, ast.Expr), "each snippet ends with what it shows"
    return eval(compile(ast.Expression(last.value), "browsing.md", "eval"), names)  # noqa: S307 - too


@pytest.mark.usefixtures("browsed")
def test_every_snippet_gives_an_answer():
    names = {}
    assert len(SNIPPETS) > 10
    for snippet in SNIPPETS:
        value = last_value(snippet, names)
        for part in value if isinstance(value, tuple) else (value,):
            empty = part.empty if isinstance(part, pd.DataFrame | pd.Series) else not part
            assert not empty, snippet
