import pytest
import torch
from transformers.integrations import sdpa_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from harness.case import Case, Cell
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell

NO_MASK, ONES = "no mask", "mask of ones"
PADDED = ("padded on the left", "padded on the right")


@pytest.fixture(scope="module")
def references():
    return References()


def asked(references, family="llama", mode="hf_sdpa", dtype="exact"):
    cell = Cell(case=Case(family=family), loading_mode=mode, dtype=dtype, probe="backends")
    plan = Plan(drawn=0, shrink_seconds=0)
    return measure_cell(cell, run_id="a-run", references=references, plan=plan)


def failing(result):
    """Give the first site of each check that failed, in the order of the rows."""
    found = {}
    for row in result.deltas:
        if row["verdict"] == "fail":
            found.setdefault(row["check"], row["site"])
    return found


@pytest.mark.parametrize("family", ["llama", "gemma3", "t5", "bert"])
def test_fused_attention_that_is_right_passes_however_it_is_asked(family, references):
    result = asked(references, family)
    if result.verdict == "unavailable":
        pytest.skip(result.row["reason"])
    assert (result.verdict, result.row["reason"]) == ("pass", None)
    assert {row["check"] for row in result.deltas} == {NO_MASK, ONES, *PADDED}


def test_fused_attention_that_drops_the_causal_mask_where_none_is_given_fails(
    references, monkeypatch
):
    right = sdpa_attention.sdpa_attention_forward

    def leaky(module, query, key, value, attention_mask, **more):
        more["is_causal"] = False
        return right(module, query, key, value, attention_mask, **more)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", leaky)
    result = asked(references)
    assert result.verdict == "fail"
    # A mask of ones is left out by transformers 5, as none is; that of padding is made.
    assert failing(result) == dict.fromkeys((NO_MASK, ONES), "blocks.0.attn.z")


def test_a_compiled_graph_that_is_right_passes_and_leaves_nothing_behind(references):
    before = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    result = asked(references, "gpt2", "hf_eager", "float32")
    assert (result.verdict, result.row["failing_checks"]) == ("pass", None)
    assert {(row["check"], row["site"]) for row in result.deltas} == {("compiled", "logits")}
    after = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    assert before == after
    assert torch._dynamo.eval_frame.cached_backends == {}


def test_a_compiled_graph_that_computes_otherwise_fails(references, monkeypatch):
    def wrong(forward, **_):
        def compiled(**inputs):
            output = forward(**inputs)
            output.logits = output.logits * 1.001
            return output

        return compiled

    monkeypatch.setattr(torch, "compile", wrong)
    found = failing(asked(references, "gpt2", "hf_eager", "float32"))
    assert found == {"compiled": "logits"}


@pytest.mark.parametrize(
    ("family", "dtype", "words"),
    [("gpt2", "exact", "goes past exact mode"), ("mixtral", "float32", "breaks at every expert")],
)
def test_what_is_not_compiled_says_why(family, dtype, words, references):
    result = asked(references, family, "hf_eager", dtype)
    assert result.verdict == "unavailable"
    assert words in result.row["reason"]
