import pytest
import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from harness.case import Case, Cell
from harness.measure.probes.cached_decoding import matrices_together
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.ports import load_port

STEPS, CHUNKS = "prefill and single tokens", "chunks"


@pytest.fixture(scope="module")
def references():
    return References()


def asked(references, family, mode="hf_eager", load=load_port, **case):
    cell = Cell(
        case=Case(family=family, **case), loading_mode=mode, dtype="exact", probe="cached_decoding"
    )
    return measure_cell(
        cell,
        run_id="a-run",
        references=references,
        plan=Plan(drawn=0, shrink_seconds=0),
        load=load,
    )


def failing(result):
    """Give the first site of each check that failed, in the order of the rows."""
    found = {}
    for row in result.deltas:
        if row["verdict"] == "fail":
            found.setdefault(row["check"], row["site"])
    return found


@pytest.mark.parametrize(
    ("family", "mode"),
    [("gpt2", "hf_eager"), ("mistral", "hf_sdpa"), ("mpt", "hf_eager"), ("gemma3", "bridge")],
)
def test_a_model_that_keeps_what_it_read_passes(family, mode, references):
    result = asked(references, family, mode)
    assert (result.verdict, result.row["reason"]) == ("pass", None)
    assert {row["check"] for row in result.deltas} == {STEPS, CHUNKS}


def test_a_cache_that_is_rolled_by_one_fails_where_keys_are_read(references, monkeypatch):
    update = DynamicLayer.update

    def rolled(self, key, value, *more, **named):
        past = self.is_initialized and self.keys.numel() > 0
        if past:
            self.keys, self.values = self.keys.roll(1, -2), self.values.roll(1, -2)
        return update(self, key, value, *more, **named)

    monkeypatch.setattr(DynamicLayer, "update", rolled)
    result = asked(references, "llama")
    assert result.verdict == "fail"
    assert failing(result) == dict.fromkeys((STEPS, CHUNKS), "blocks.0.attn.rot_k")
    assert failing(asked(references, "gpt2"))[STEPS] == "blocks.0.attn.attn_scores"


def test_a_cache_that_forgets_a_key_too_many_past_the_window_fails_where_it_is_read(
    references, monkeypatch
):
    update = DynamicSlidingWindowLayer.update

    def forgetful(self, key, value, *more, **named):
        keys, values = update(self, key, value, *more, **named)
        if self.cumulative_length > self.sliding_window and key.shape[-2] == 1:
            keys, values = keys.clone(), values.clone()
            keys[..., 0, :], values[..., 0, :] = 0.0, 0.0
        return keys, values

    monkeypatch.setattr(DynamicSlidingWindowLayer, "update", forgetful)
    assert failing(asked(references, "gemma3"))[STEPS] == "blocks.0.attn.rot_k"
    assert failing(asked(references, "gemma3", "hf_sdpa"))[STEPS] == "blocks.0.attn.z"


def test_positions_that_start_anew_at_every_step_fail_at_rotated_queries(references):
    def load(cell, checkpoint):
        runner = load_port(cell, checkpoint)
        runner.model.register_forward_pre_hook(
            lambda _, args, kwargs: (
                args,
                {**kwargs, "position_ids": torch.arange(kwargs["input_ids"].shape[1])[None]},
            ),
            with_kwargs=True,
        )
        return runner

    found = failing(asked(references, "llama", load=load))
    assert found == dict.fromkeys((STEPS, CHUNKS), "blocks.0.attn.rot_q")


def test_a_hook_that_does_not_fire_at_every_step_is_named(references):
    def load(cell, checkpoint):
        runner = load_port(cell, checkpoint)
        forward = runner._forward

        def lossy(inputs, sites, asking, **more):
            taken, output = forward(inputs, sites, asking, **more)
            if inputs.get("past_key_values") is not None:
                del taken["blocks.0.mlp_out"]
            return taken, output

        runner._forward = lossy
        return runner

    found = failing(asked(references, "gpt2", load=load))
    assert found == {"hooks fire at every step": "blocks.0.mlp_out"}


def test_a_model_that_reads_both_ways_owes_nothing(references):
    result = asked(references, "bert")
    assert result.verdict == "unavailable"
    assert "reads both ways" in result.row["reason"]


def test_keys_that_a_cache_forgot_have_no_weight_and_no_score():
    full = torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.0, 0.3, 0.7]])[None, None]
    pieces = [full[..., :2, :2], full[..., 2:, 1:]]
    joined, wanted = matrices_together(pieces, full, "blocks.0.attn.pattern")
    assert torch.equal(joined, wanted)
    scores, _ = matrices_together(pieces, full, "blocks.0.attn.attn_scores")
    assert scores[0, 0, 2, 0] == -torch.inf
    lost, wanted = matrices_together(
        [full[..., :2, :2], full[..., 2:, 2:]], full, "blocks.0.attn.pattern"
    )
    assert not torch.equal(lost, wanted)
