import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from harness.case import Case, Cell, Prompt
from harness.errors import RunFolderError
from harness.measure.references import References
from harness.measure.replay import replay_cell
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run, write_result
from harness.models.checkpoints import synthetic

PROMPTS = (
    Prompt.unpadded(((5, 6, 7), (8, 9, 10)), origin="bank:some"),
    Prompt(tokens=((3, 9),), attention_mask=((0, 1),), origin="hypothesis"),
)


def measure_into(run, cell):
    plan = Plan(prompts=PROMPTS, shrink_seconds=0.0)
    open_run(run, selection={}, plan={})
    result = measure_cell(cell, run_id=run.name, references=References(), plan=plan)
    write_result(run, result)
    return result


def cell_of(dtype="exact", *, checkpoint="synthetic", device="cpu"):
    case = Case(family="gpt2", checkpoint=checkpoint)
    return Cell(case=case, loading_mode="hf_sdpa", dtype=dtype, device=device)


def rewrite(run, kind, cell, **columns):
    part = run / kind / f"{cell.id}.parquet"
    stored = pq.read_schema(part)
    frame = pd.read_parquet(part).assign(**columns)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(stored.metadata), part)


@pytest.fixture
def run(tmp_path):
    return tmp_path / "a-run"


@pytest.mark.parametrize("dtype", ["exact", "float32", "bfloat16"])
def test_a_cell_measured_again_gives_the_same_rows_to_the_last_bit(dtype, run):
    stored = measure_into(run, cell_of(dtype))
    again = replay_cell(run, cell_of(dtype).id)
    assert again.same
    assert "largest change of a rel_l2: 0" in again.words
    assert again.result.deltas == stored.deltas
    assert again.result.prompts == stored.prompts


def test_a_row_that_failed_in_the_stored_run_and_fails_no_more_is_another_result(run):
    measure_into(run, cell_of())
    rewrite(run, "deltas", cell_of(), verdict="fail")
    again = replay_cell(run, cell_of().id)
    assert not again.same
    assert "0 failing" in again.words.partition("again")[2]


def test_a_number_that_moved_is_said(run):
    measure_into(run, cell_of())
    rewrite(run, "deltas", cell_of(), rel_l2=0.25)
    assert "largest change of a rel_l2: 0.25" in replay_cell(run, cell_of().id).words


def test_a_row_that_is_not_there_any_more_is_another_result(run):
    measure_into(run, cell_of())
    rewrite(run, "deltas", cell_of(), site="blocks.9.attn_out")
    assert not replay_cell(run, cell_of().id).same


def test_a_cell_that_measured_nothing_can_be_asked_again(run):
    unavailable = cell_of(device="mps")  # which is never exact
    measure_into(run, unavailable)
    assert replay_cell(run, unavailable.id).result.verdict == "unavailable"


def test_a_cell_that_the_run_does_not_have_is_refused_with_some_that_it_has(run):
    measure_into(run, cell_of())
    with pytest.raises(RunFolderError, match=r"no cell 'nothing'.*gpt2-default\.hf_sdpa\.exact"):
        replay_cell(run, "nothing")


def test_a_checkpoint_that_is_another_one_by_now_is_refused(run, tmp_path):
    built = synthetic.build("gpt2", "default", size="tiny")
    folder = shutil.copytree(built.path, tmp_path / "checkpoint")
    cell = cell_of(checkpoint=f"folder:{folder}")
    measure_into(run, cell)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.bias"][0] += 1.0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunFolderError, match="the checkpoint is not the one that was measured"):
        replay_cell(run, cell.id)


def test_a_checkpoint_that_is_gone_is_an_error_and_another_result(run, tmp_path):
    built = synthetic.build("gpt2", "default", size="tiny")
    folder = shutil.copytree(built.path, tmp_path / "checkpoint")
    cell = cell_of(checkpoint=f"folder:{folder}")
    measure_into(run, cell)
    shutil.rmtree(folder)
    again = replay_cell(run, cell.id)
    assert (again.same, again.result.verdict) == (False, "error")
