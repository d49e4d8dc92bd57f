import math

import pytest
import torch
from transformers import LlamaConfig

from harness.case import Case, Cell, Prompt
from harness.measure.references import References
from harness.models.ports.asking import PLAIN
from harness.models.ports.attention_trace import AttentionTrace

PROMPT = Prompt.unpadded(((5, 6, 7, 8), (9, 10, 11, 12)), origin="a test")
LENGTH, HEAD, THETA = 4, 8, 10000.0


def exact_reference(family, variant="default"):
    case = Case(family=family, variant=variant)
    return References().of(Cell(case=case, loading_mode="bridge", dtype="exact"))


@pytest.fixture(scope="module")
def llama():
    """Give the activations of a llama with six query heads and two key-value heads."""
    return exact_reference("llama", "gqa").activations(PROMPT)


@pytest.fixture(scope="module")
def gpt_oss():
    return exact_reference("gpt_oss")


def rotated(states):
    """Turn [batch, pos, head, d_head] by the rotary embedding, from its formula."""
    frequencies = THETA ** -(torch.arange(0, HEAD, 2).double() / HEAD)
    angles = torch.arange(LENGTH).double()[:, None, None] * frequencies
    first, second = states.chunk(2, dim=-1)
    return torch.cat(
        [
            first * angles.cos() - second * angles.sin(),
            second * angles.cos() + first * angles.sin(),
        ],
        dim=-1,
    )


def scores_of(query, key):
    """Give causal scores [batch, head, query, key] from [batch, pos, head, d_head]."""
    key = key.repeat_interleave(query.shape[2] // key.shape[2], dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(HEAD)
    return scores.masked_fill(~causal(), -math.inf)


def causal():
    return torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()


def assert_near(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["q", "k"])
def test_rotated_queries_and_keys_are_those_of_the_formula(name, llama):
    assert_near(llama[f"blocks.1.attn.rot_{name}"], rotated(llama[f"blocks.1.attn.{name}"]))


def test_keys_have_key_value_heads_and_queries_all_of_them(llama):
    assert llama["blocks.1.attn.rot_k"].shape == (2, LENGTH, 2, HEAD)
    assert llama["blocks.1.attn.rot_q"].shape == (2, LENGTH, 6, HEAD)


def test_scores_are_those_that_enter_the_softmax(llama):
    scores = llama["blocks.1.attn.attn_scores"]
    wanted = scores_of(rotated(llama["blocks.1.attn.q"]), rotated(llama["blocks.1.attn.k"]))
    assert_near(scores[..., causal()], wanted[..., causal()])
    assert bool((scores[..., ~causal()] < -1e30).all())


def test_the_pattern_is_the_softmax_of_the_scores_and_weighs_the_values(llama):
    scores = scores_of(llama["blocks.1.attn.rot_q"], llama["blocks.1.attn.rot_k"])
    pattern = llama["blocks.1.attn.pattern"]
    assert_near(pattern, scores.softmax(-1))
    values = llama["blocks.1.attn.v"].repeat_interleave(3, dim=2)
    assert_near(llama["blocks.1.attn.z"], torch.einsum("bhqk,bkhd->bqhd", pattern, values))


def test_a_sinks_column_is_left_out(gpt_oss):
    taken = gpt_oss.activations(PROMPT)
    pattern = taken["blocks.1.attn.pattern"]
    assert taken["blocks.1.attn.attn_scores"].shape == pattern.shape == (2, 4, LENGTH, LENGTH)
    assert bool((pattern.sum(-1) < 0.999).all())
    values = taken["blocks.1.attn.v"].repeat_interleave(2, dim=2)
    assert_near(taken["blocks.1.attn.z"], torch.einsum("bhqk,bkhd->bqhd", pattern, values))


def test_what_the_sink_takes_is_what_the_pattern_lacks(gpt_oss):
    taken = gpt_oss.activations(PROMPT)
    sinks = gpt_oss.runner.model.get_submodule("model.layers.1.self_attn").sinks.detach()
    # The reference takes each row's maximum off: the scores are put back where they were.
    query, key = taken["blocks.1.attn.rot_q"], taken["blocks.1.attn.rot_k"]
    scores = scores_of(query, key) * math.sqrt(HEAD / query.shape[-1])
    total = scores.exp().sum(-1) + sinks.exp()[:, None]
    assert_near(taken["blocks.1.attn.pattern"], scores.exp() / total[..., None])


def test_an_encoders_pattern_sees_the_future():
    pattern = exact_reference("bert").activations(PROMPT)["blocks.0.attn.pattern"]
    assert bool((pattern[..., ~causal()] > 0).all())


class Attention(torch.nn.Module):
    """A layer that computes one softmax, and another one in a module of its own."""

    def forward(self, states):
        return torch.softmax(states @ states.transpose(-1, -2), dim=-1) @ states


def trace_of(seen=None):
    into = PLAIN.taken(()) if seen is None else seen
    return AttentionTrace(config=LlamaConfig(), into=into)


def test_where_nothing_is_watched_nothing_is_taken():
    seen = PLAIN.taken(())
    with trace_of(seen):
        Attention()(torch.randn(1, 5, LENGTH, HEAD))
    assert seen == {}


def test_only_what_runs_inside_the_watched_module_is_taken():
    watched, other = Attention(), Attention()
    states = torch.randn(1, 5, LENGTH, HEAD)
    seen = PLAIN.taken(())
    trace = trace_of(seen)
    with trace.watching(watched, "blocks.0.attn"), trace:
        other(states * 2)
        watched(states)
        other(states * 3)
    scores = seen["blocks.0.attn.attn_scores"]
    assert torch.equal(scores, states @ states.transpose(-1, -2))


def test_after_watching_no_hook_stays_behind():
    watched = Attention()
    with trace_of().watching(watched, "blocks.0.attn"):
        assert (len(watched._forward_hooks), len(watched._forward_pre_hooks)) == (1, 1)
    assert (len(watched._forward_hooks), len(watched._forward_pre_hooks)) == (0, 0)


def test_a_watched_module_that_raises_is_watched_no_more():
    watched = Attention()
    seen = PLAIN.taken(())
    trace = trace_of(seen)
    with trace.watching(watched, "blocks.0.attn"), trace:
        with pytest.raises(AttributeError):
            watched("no tensor")
        Attention()(torch.randn(1, 5, LENGTH, HEAD))
    assert seen == {}


class FoldedHeads(torch.nn.Module):
    """Attention of older releases: the heads folded into the batch, as BLOOM and GPT-NeoX do."""

    def forward(self, query, key):
        folded = [states.flatten(0, 1) for states in (query, key)]
        scores = torch.zeros(len(folded[0]), LENGTH, LENGTH)
        scores = scores.baddbmm(batch1=folded[0], batch2=folded[1].transpose(1, 2))
        return torch.softmax(scores, dim=-1)


class QueriesBeforeHeads(torch.nn.Module):
    """GPTBigCode's attention of transformers 4: one key head, and queries before heads."""

    def forward(self, query, key):
        flat = query.transpose(1, 2).flatten(1, 2)
        scores = torch.bmm(flat, key[:, 0].transpose(1, 2))
        return torch.softmax(scores.unflatten(1, (LENGTH, -1)), dim=-1)


def states_of(*, heads, length=LENGTH):
    generator = torch.Generator().manual_seed(heads)
    return torch.randn(2, heads, length, HEAD, generator=generator)


def watch(attention, *states, heads):
    config = LlamaConfig(num_attention_heads=heads, hidden_size=heads * HEAD)
    seen = PLAIN.taken(())
    trace = AttentionTrace(config=config, into=seen)
    with trace.watching(attention, "blocks.0.attn"), trace:
        attention(*states)
    return {site.removeprefix("blocks.0.attn."): found for site, found in seen.items()}


def test_heads_folded_into_the_batch_are_unfolded():
    query, key = states_of(heads=3), states_of(heads=3) / 2
    taken = watch(FoldedHeads(), query, key, heads=3)
    torch.testing.assert_close(taken["attn_scores"], query @ key.transpose(-1, -2))
    torch.testing.assert_close(taken["pattern"].sum(-1), torch.ones(2, 3, LENGTH))
    assert torch.equal(taken["rot_q"], query.transpose(1, 2))
    assert torch.equal(taken["rot_k"], key.transpose(1, 2))


@pytest.mark.parametrize("heads", [3, LENGTH])
def test_queries_before_heads_are_put_behind_them(heads):
    query, key = states_of(heads=heads), states_of(heads=1)
    taken = watch(QueriesBeforeHeads(), query, key, heads=heads)
    torch.testing.assert_close(taken["attn_scores"], query @ key.transpose(-1, -2))
