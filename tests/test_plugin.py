"""The plugin in folders of its users: real cells, measured by a real pytest."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

import harness
from harness.case import Case, Cell
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run, write_result
from harness.record import PACKED, finished_cells
from harness.report.words import print_run

pytest_plugins = ["pytester"]

CASES = """
    import pytest
    from harness import Case

    @pytest.mark.harness({cases})
    def test_port_agrees(cell, check_cell):
        check_cell(cell)
"""
GPT2, LLAMA = 'Case(family="gpt2")', 'Case(family="llama")'
FAULT = """
    import pytest
    from harness.models.ports import huggingface

    @pytest.fixture(autouse=True)
    def fault(monkeypatch):
        load = huggingface.load

        def load_faulty(cell, checkpoint, attention):
            runner = load(cell, checkpoint, attention=attention)
            if attention == "eager":
                return runner
            runner.model.get_submodule("transformer.h.1.mlp.c_proj").bias.data[3] += 1e-4
            return runner

        monkeypatch.setattr(huggingface, "load", load_faulty)
"""
QUICK = ("--prompts=0", "--shrink-seconds=1", "-p", "no:cacheprovider")
ONE_MODE = (*QUICK, "--mode=hf_sdpa")
IN_THREE_DTYPES = [f"gpt2-default.hf_sdpa.{dtype}" for dtype in ("bfloat16", "exact", "float32")]
LATEST = "reports/runs/latest"


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory):
    """Keep checkpoints apart from the user's, and import all that pytester would forget again."""
    run = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        open_run(run, selection={}, plan={})
        for family, mode in (("gpt2", "bridge"), ("llama", "hf_sdpa")):
            cell = Cell(case=Case(family=family), loading_mode=mode, dtype="exact")
            plan = Plan(drawn=1)
            write_result(run, measure_cell(cell, run_id="x", references=References(), plan=plan))
        print_run(run, write=str, messages=True)
        pd.read_parquet(run / "cells")
        yield


@pytest.fixture
def folder(pytester):
    """Give an outside folder with a file of cases."""

    def write(*cases):
        pytester.makepyfile(test_cases=CASES.format(cases=", ".join(cases)))
        return pytester

    return write


@pytest.fixture
def _unpacked(monkeypatch):
    """Let sessions end as if they had been killed before they packed their run."""
    monkeypatch.setattr("harness.plugin.pack", lambda _: 0)


def verdicts_in(run):
    cells = harness.read_cells(run)
    return dict(zip(cells.cell_id, cells.verdict, strict=True))


def parts_of(run):
    """Give the content of every part of a run, by its path."""
    return {part.relative_to(run): part.read_bytes() for part in run.rglob("*.parquet")}


def test_a_file_of_cases_in_an_outside_folder_is_measured_and_pandas_reads_the_run(folder):
    outside = folder(GPT2)
    result = outside.runpytest(*QUICK, "--mode=bridge,hf_sdpa", "--dtype=exact,float32")
    result.assert_outcomes(passed=4)
    run = outside.path / LATEST
    assert set(pd.read_parquet(run / "cells").verdict) == {"pass"}
    assert {"embed", "logits"} <= set(pd.read_parquet(run / "deltas").site)
    assert len(pd.read_parquet(run / "prompts").tokens) > 0
    result.stdout.fnmatch_lines(["*4 cells: 4 pass;*", f"rows: {run.resolve()}"])


def test_a_run_says_where_its_numbers_come_from(folder):
    outside = folder(GPT2)
    outside.runpytest(*ONE_MODE, "--dtype=exact", "--prompt-seed=7", "--run=mine")
    described = harness.read_run(outside.path / "reports/runs/mine")
    assert described["selection"] == {"mode": ["hf_sdpa"], "dtype": ["exact"]}
    plan = {"drawn": 0, "seed": 7, "shrink_seconds": 1.0, "relation": "processing"}
    assert described["plan"] == plan
    assert {"torch", "transformers", "transformer-lens"} <= set(described["packages"])


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        ((), "has no cases"),
        ((f"({GPT2}, {LLAMA})",), "has a tuple, but should have cases"),
        ((GPT2, GPT2), "one name*gpt2-default"),
    ],
)
def test_a_mark_that_holds_no_cases_is_an_error(cases, told, folder):
    result = folder(*cases).runpytest(*QUICK)
    assert result.ret not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    result.stdout.fnmatch_lines([f"*{told}*"])


def test_a_failing_cell_tells_in_four_parts_what_is_wrong(folder):
    outside = folder(GPT2)
    outside.makeconftest(FAULT)
    result = outside.runpytest(*ONE_MODE, "--dtype=exact")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "blocks.1.mlp_out: port differs from reference [[]gpt2-default · hf_sdpa · exact[]]",
            "  found:   rel_l2 * in true float64, max |Δ| 0.0001 at [[]*,3[]]",
            "  allowed: 1e-11 *",
            "  first: *",
            "  next:    harness explain * gpt2-default.hf_sdpa.exact",
            "           harness replay * gpt2-default.hf_sdpa.exact",
            "*1 cells: 1 fail;*",
            "FAIL gpt2-default.hf_sdpa.exact at blocks.1.mlp_out",
        ]
    )


PROBED = """
    import pytest
    from harness import Case

    @pytest.mark.harness(Case(family="gpt2"))
    def test_model_keeps_what_it_owes(probe_cell, check_cell):
        check_cell(probe_cell)
"""


def test_probes_of_an_outside_folder_are_asked_by_name(pytester):
    pytester.makepyfile(test_probes=PROBED)
    options = (*QUICK, "--probe=residual,batch", "--mode=hf_sdpa", "--dtype=exact")
    pytester.inline_run(*options).assertoutcome(passed=2)
    found = verdicts_in(pytester.path / LATEST)
    assert found == {
        "gpt2-default.hf_sdpa.exact.batch": "pass",
        "gpt2-default.hf_sdpa.exact.residual": "pass",
    }
    assert set(harness.read_cells(pytester.path / LATEST).probe) == {"batch", "residual"}


def test_an_unknown_probe_is_a_wrong_use(pytester):
    pytester.makepyfile(test_probes=PROBED)
    found = pytester.runpytest_inprocess(*QUICK, "--probe=causalty")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*unknown probe 'causalty'; did you mean 'causality'*"])


def test_an_empty_selection_is_not_green(folder):
    result = folder(GPT2).runpytest(*QUICK, "--family=llama")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--family=gpt22", "*unknown family 'gpt22'; did you mean 'gpt2'?*"),
        ("--prompt-seed=tomorrow", "*'tomorrow' is neither a whole number nor `today`*"),
        ("--resume=nowhere", "*nowhere is not a run*"),
        ("--relation=eqaul", "*unknown relation 'eqaul'; did you mean 'equal'?*"),
    ],
)
def test_a_wrong_option_is_a_wrong_use_of_pytest(option, told, folder):
    result = folder(GPT2).runpytest(*QUICK, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


def test_a_run_in_which_no_cell_could_be_measured_is_not_green(folder):
    result = folder(GPT2).runpytest(*ONE_MODE, "--device=mps", "--dtype=exact")
    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["*1 cells: 1 unavailable; 0 sites*", "NOT MEASURED, 1 cells: *"])


def test_a_run_in_which_some_cells_were_measured_says_which_were_not(folder):
    result = folder(GPT2).runpytest(*ONE_MODE, "--device=mps,cpu", "--dtype=exact")
    result.assert_outcomes(skipped=1, passed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*2 cells: 1 pass, 1 unavailable;*", "NOT MEASURED, 1 cells: *"])


@pytest.mark.usefixtures("_unpacked")
def test_a_resumed_run_finishes_the_rest_as_it_was_begun(folder):
    outside = folder(GPT2, LLAMA)
    begun = ("--family=gpt2", "--mode=hf_sdpa", "--prompts=1", "--prompt-seed=7")
    outside.runpytest("-p", "no:cacheprovider", *begun).assert_outcomes(passed=3)
    run = (outside.path / LATEST).resolve()
    whole = parts_of(run)
    for lost in IN_THREE_DTYPES[:2]:
        (run / "cells" / f"{lost}.parquet").unlink()
    outside.runpytest("-p", "no:cacheprovider", f"--resume={run}").assert_outcomes(passed=2)
    assert verdicts_in(run) == dict.fromkeys(IN_THREE_DTYPES, "pass")
    again = parts_of(run)
    assert again.keys() == whole.keys()
    assert all(again[part] == whole[part] for part in whole if part.parts[0] != "cells")


def test_a_resumed_run_is_red_where_what_it_had_before_is_red(folder):
    outside = folder(GPT2)
    conftest = outside.makeconftest(FAULT)
    outside.runpytest(*ONE_MODE, "--dtype=exact", "--run=mine").assert_outcomes(failed=1)
    conftest.unlink()
    result = outside.runpytest(*ONE_MODE, "--dtype=exact,float32", "--resume=reports/runs/mine")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAIL gpt2-default.hf_sdpa.exact at blocks.1.mlp_out"])


def test_a_run_that_ended_is_packed_and_is_resumed_all_the_same(folder):
    outside = folder(GPT2)
    outside.runpytest(*ONE_MODE, "--dtype=exact", "--run=mine").assert_outcomes(passed=1)
    run = outside.path / "reports/runs/mine"
    before = harness.read_deltas(run)
    again = outside.runpytest(*ONE_MODE, "--dtype=exact,float32", f"--resume={run}")
    again.assert_outcomes(passed=1)
    assert verdicts_in(run) == dict.fromkeys(IN_THREE_DTYPES[1:], "pass")
    assert {part.name for part in parts_of(run)} == {PACKED}
    same = harness.read_deltas(run, dtype="exact")
    pd.testing.assert_frame_equal(same, before, check_categorical=False)


def test_a_run_that_cannot_be_packed_says_so_and_loses_nothing(folder, monkeypatch):
    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr("harness.plugin.pack", full)
    outside = folder(GPT2)
    result = outside.runpytest(*ONE_MODE, "--dtype=exact", "--run=mine")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["NOT PACKED: no space left; next: harness pack mine"])
    assert list(verdicts_in(outside.path / "reports/runs/mine").values()) == ["pass"]


def test_a_packed_run_that_cannot_be_read_is_not_resumed(folder):
    outside = folder(GPT2)
    outside.runpytest(*ONE_MODE, "--dtype=exact", "--run=mine").assert_outcomes(passed=1)
    (packed,) = outside.path.glob("reports/runs/mine/cells/*.parquet")
    packed.write_bytes(packed.read_bytes()[:-9])
    result = outside.runpytest(*QUICK, "--resume=reports/runs/mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cells/packed.parquet cannot be read*"])


@pytest.mark.usefixtures("_unpacked")
def test_a_run_with_a_part_that_cannot_be_read_is_not_resumed(folder):
    outside = folder(GPT2)
    outside.runpytest(*ONE_MODE, "--dtype=exact", "--run=mine").assert_outcomes(passed=1)
    (part,) = outside.path.glob("reports/runs/mine/cells/*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    result = outside.runpytest(*QUICK, "--resume=reports/runs/mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*gpt2-default.hf_sdpa.exact.parquet cannot be read*"])


def test_a_run_is_not_resumed_in_another_relation_than_it_was_begun_in(folder):
    outside = folder(GPT2)
    outside.runpytest(*ONE_MODE, "--dtype=exact", "--run=mine").assert_outcomes(passed=1)
    result = outside.runpytest(*QUICK, "--resume=reports/runs/mine", "--relation=equal")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*this run was begun with processing*"])


def test_a_whole_run_has_nothing_to_resume(folder):
    outside = folder(GPT2)
    outside.runpytest(*ONE_MODE, "--dtype=exact", "--run=mine").assert_outcomes(passed=1)
    result = outside.runpytest(*QUICK, "--resume=reports/runs/mine")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_run_is_not_written_into_another_one(folder):
    outside = folder(GPT2)
    outside.runpytest(*ONE_MODE, "--dtype=exact", "--run=mine").assert_outcomes(passed=1)
    result = outside.runpytest(*ONE_MODE, "--dtype=float32", "--run=mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*mine is there already; --resume it*"])


def kill_once_a_cell_is_finished(command, run):
    """Start a run in a group of its own, and kill the group as soon as a cell is finished."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(run.glob("cells/*.parquet")):
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_run_that_is_killed_keeps_its_finished_cells_and_is_resumed_to_its_end(folder):
    outside = folder(GPT2)
    run = outside.path / "reports/runs/mine"
    command = [sys.executable, "-m", "pytest", *QUICK, "--run=mine", "--mode=hf_sdpa"]
    kill_once_a_cell_is_finished(command, run)
    finished = finished_cells(run)
    assert 1 <= len(finished) < 3
    assert verdicts_in(run) == dict.fromkeys(finished, "pass")
    before = harness.read_deltas(run)
    before = before[before.cell_id.isin(finished)].reset_index(drop=True)
    assert set(before.cell_id) == finished
    outside.runpytest(*QUICK, f"--resume={run}").assert_outcomes(passed=3 - len(finished))
    assert verdicts_in(run) == dict.fromkeys(IN_THREE_DTYPES, "pass")
    after = harness.read_deltas(run, cell_id=sorted(finished))
    pd.testing.assert_frame_equal(after, before, check_categorical=False)


def test_a_parameter_of_another_project_may_be_called_cell_too(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("cell", [1, {"a": 2}])
        def test_of_another_project(cell):
            assert cell
        """
    )
    pytester.runpytest(*QUICK, "--family=gpt2").assert_outcomes(passed=2)


def test_a_session_without_cells_writes_no_run(pytester):
    pytester.makepyfile("def test_of_another_project(): pass")
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert not (pytester.path / "reports").exists()


PROFILED = """
    import pytest
    from harness import Case

    def wide():
        raise_if_asked()
        return [Case(family="gpt2", checkpoint="shrunk")]

    def raise_if_asked():
        {raises}

    @pytest.mark.harness(wide, profile="breadth")
    def test_port_agrees(cell, check_cell):
        check_cell(cell)

    @pytest.mark.harness(Case(family="gpt2"))
    def test_default(cell, check_cell):
        check_cell(cell)
"""


def test_cases_of_a_profile_are_gathered_and_measured_only_where_it_is_asked_for(pytester):
    pytester.makepyfile(test_wide=PROFILED.format(raises="raise RuntimeError"))
    pytester.runpytest(*QUICK, "--mode=hf_sdpa", "--dtype=exact").assert_outcomes(
        passed=1, deselected=1
    )


def test_a_profile_that_is_asked_for_leaves_the_default_out(pytester):
    pytester.makepyfile(test_wide=PROFILED.format(raises="pass"))
    asked = ("--harness-profile=breadth", "--mode=hf_sdpa", "--dtype=exact")
    pytester.runpytest(*QUICK, *asked).assert_outcomes(passed=1, deselected=1)
    assert verdicts_in(pytester.path / LATEST) == {"gpt2-default@shrunk.hf_sdpa.exact": "pass"}


def test_a_profile_without_a_case_is_not_green(folder):
    outside = folder(GPT2)
    result = outside.runpytest(*QUICK, "--harness-profile=breadth")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
