"""A run whose comparison is broken is red because of its control, and else is green."""

import pytest

import harness
from harness.case import SHRUNK, Case, Cell
from harness.measure.references import References, numerics_of
from harness.models.ports import load_port
from harness.record import read_controls
from harness.teeth.control import _small

pytest_plugins = ["pytester"]

CASES = """
    import pytest
    from harness import Case

    @pytest.mark.harness(Case(family="gpt2"))
    def test_port_agrees(cell, check_cell):
        check_cell(cell)
"""
BROKEN = """
    import dataclasses
    import pytest
    import torch
    from harness import bounds
    from harness.measure import comparer

    def compare_gives_zeros(patch):
        compare = comparer.compare
        zeros = lambda *a, **k: dataclasses.replace(compare(*a, **k), rel_l2=0.0, max_abs=0.0)
        patch.setattr(comparer, "compare", zeros)

    class Everything:
        kind = "nothing"
        def bring_together(self, actual, expected, used):
            return torch.zeros_like(actual), torch.zeros_like(expected)
        def for_the_reference(self):
            return self

    def relation_removes_everything(patch):
        patch.setattr(comparer, "relation_for", lambda *a, **k: Everything())

    def hooks_of_the_wrong_model(patch):
        class Wrong(comparer.CellComparer):
            def distances(self, *a, **k):
                self.port = self.reference.runner
                return super().distances(*a, **k)
        from harness.measure import agreement
        patch.setattr(agreement, "CellComparer", Wrong)

    def tolerance_a_million_times_wider(patch):
        patch.setattr(bounds, "EXACT_BOUND", 1e6 * bounds.EXACT_BOUND)

    @pytest.fixture(autouse=True)
    def broken(monkeypatch):
        {fault}(monkeypatch)
"""
OPTIONS = ("--prompts=0", "--shrink-seconds=1", "-p", "no:cacheprovider", "--dtype=exact")
RUN = (*OPTIONS, "--mode=hf_sdpa,bridge", "--run=mine")
MINE = "reports/runs/mine"


pytestmark = pytest.mark.usefixtures("one_cache")


@pytest.fixture
def outside(pytester):
    """Give a folder of its own with one case; another process runs it, as a user does."""
    pytester.makepyfile(test_cases=CASES)
    return pytester


def test_a_run_plants_a_fault_per_family_and_port_and_does_not_count_it(outside):
    result = outside.runpytest_subprocess(*RUN)
    assert result.ret == pytest.ExitCode.OK
    controls = read_controls(outside.path / MINE)
    assert sorted(controls.port) == ["bridge", "transformers"]
    assert controls.caught.all()
    assert set(harness.read_cells(outside.path / MINE).verdict) == {"pass"}
    result.stdout.fnmatch_lines(["2 controls planted, 2 caught"])


@pytest.mark.parametrize(
    "fault",
    [
        "compare_gives_zeros",
        "relation_removes_everything",
        "hooks_of_the_wrong_model",
        "tolerance_a_million_times_wider",
    ],
)
def test_a_run_whose_comparison_is_broken_is_red(fault, outside):
    outside.makeconftest(BROKEN.replace("{fault}", fault))
    result = outside.runpytest_subprocess(*RUN)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["CONTROL NOT CAUGHT in gpt2-default.*proves nothing"])


def test_a_run_that_lost_its_control_plants_another_when_it_is_resumed(outside):
    outside.makeconftest("import harness.plugin\n\nharness.plugin.pack = lambda _: 0\n")
    outside.runpytest_subprocess(*RUN)
    for part in (outside.path / MINE / "controls").iterdir():
        part.unlink()
    (outside.path / MINE / "cells" / "gpt2-default.hf_sdpa.exact.parquet").unlink()
    outside.runpytest_subprocess(*OPTIONS, "--mode=hf_sdpa,bridge", f"--resume={MINE}")
    assert len(list((outside.path / MINE / "controls").iterdir())) == 2


def test_a_port_that_shows_no_blocks_or_no_modules_is_misread():
    class Blockless:
        sites = ("embed", "logits")

    found = _small(Blockless(), "exact")
    assert [fault.site for fault in found] == ["embed", "logits"]
    assert all("(1 + 1e-06)" in fault.size for fault in found)


@pytest.mark.parametrize("family", ["neomme", "apertus"], ids=["windows", "weighted activation"])
def test_a_model_with_more_than_most_has_faults(family):
    case = Case(family=family, checkpoint=SHRUNK)
    cell = Cell(case=case, loading_mode="hf_sdpa", dtype="exact")
    checkpoint = References().of(cell).checkpoint
    with numerics_of("exact"):
        runner = load_port(cell, checkpoint)
    assert _small(runner, "exact")
