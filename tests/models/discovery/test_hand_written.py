"""The automatic site map against the hand-written records: they know nothing of each other."""

import functools

import pytest
import torch

from harness.case import Case, Cell
from harness.measure.prompts import Vocabulary, bank
from harness.measure.references import numerics_of
from harness.models.checkpoints import checkpoint_of
from harness.models.discovery import discovered
from harness.models.families import FAMILIES
from harness.models.family import Family
from harness.models.heads import final_norm_of, rebuilt
from harness.models.ports import load_reference
from harness.models.ports.huggingface import TransformersRunner

NATIVE = [name for name, record in FAMILIES.items() if record.is_native]
DEFAULTS = [(name, "default") for name in NATIVE]
# Those whose module tree, layout or order differs from the default's.
VARIANTS = [
    ("bloom", "residual_after_norm"),
    ("falcon", "alibi"),
    ("falcon", "new_decoder"),
    ("falcon", "new_decoder_one_norm"),
    ("gpt_bigcode", "multi_head"),
    ("gpt_neox", "sequential_residual"),
    ("mpt", "clipped_qkv"),
    ("olmo2", "gqa"),
    ("opt", "post_norm"),
    ("opt", "no_final_norm"),
    ("persimmon", "no_qk_layernorm"),
    ("phi", "qk_layernorm"),
    ("phi3", "gqa"),
    ("qwen2_moe", "window"),
    ("stablelm", "parallel_residual"),
    ("t5", "gated"),
]
each_variant = pytest.mark.parametrize(
    ("name", "variant"),
    [pytest.param(*both, id="-".join(both)) for both in DEFAULTS + VARIANTS],
)
# A mixture in whose experts the hand-written record has sites: retrieved by products, not by one
# linear map, so that what enters an activation cannot be told.
EXPERTS = ("mlp.pre", "mlp.pre_linear", "mlp.post")
DTYPES = ("exact", "float32", "bfloat16")
IN_EVERY_DTYPE = ("bert", "bloom", "doge", "falcon", "gpt2", "gpt_oss", "granite", "llama", "t5")


def stub(name):
    """Give a record that names no site."""
    record = FAMILIES[name]
    return Family(
        name=name,
        config=record.config,
        taps={},
        stacks=(),
        auto_class=record.auto_class,
        causal=record.causal,
        automatic=True,
    )


@functools.cache
def runners(name, variant, dtype="exact"):
    """Load a synthetic checkpoint once; give the runner of its record and that of a stub."""
    cell = Cell(case=Case(family=name, variant=variant), loading_mode="bridge", dtype=dtype)
    checkpoint = checkpoint_of(cell.case)
    with numerics_of(dtype):
        written = load_reference(cell, checkpoint)
        record = discovered(written.model, stub(name))
        found = TransformersRunner(record, written.model, norms={})
    return checkpoint, written, found


def test_every_default_family_is_asked():
    assert len(NATIVE) > 30
    assert {name for name, _ in VARIANTS} <= set(NATIVE)


@each_variant
def test_what_is_found_is_what_the_hand_written_record_reads(name, variant):
    checkpoint, written, found = runners(name, variant)
    prompts = bank(Vocabulary.of(checkpoint.config, padding=False))
    for prompt in (prompt for prompt in prompts if prompt.origin == "bank:batch"):
        with numerics_of("exact"):
            expected = written.run(prompt, written.sites)
            actual = found.run(prompt, found.sites)
        both = sorted(expected.keys() & actual.keys())
        assert len(both) > 1
        differing = [site for site in both if not torch.equal(actual[site], expected[site])]
        assert differing == []


@each_variant
def test_every_site_of_the_hand_written_record_is_found(name, variant):
    _, written, found = runners(name, variant)
    names = set(written.sites)
    if name == "falcon" and not found.family.rotary:  # its record says so of variants with ALiBi
        names = {site for site in names if not site.endswith(("rot_q", "rot_k"))}
    missing = names - set(found.sites)
    print(f"{name}-{variant}: {len(names) - len(missing)} of {len(names)} sites found")  # noqa: T201 - the table
    assert missing == set()
    assert found.family.unidentified == {}


@each_variant
def test_facts_found_by_numbers_are_those_of_the_hand_written_record(name, variant):
    _, written, found = runners(name, variant)
    record, config = written.family, written.model.config
    assert found.family.layer_norm == record.layer_norm
    assert found.family.rotary == (record.rotary and not getattr(config, "alibi", False))
    stacks = [stack for stack in record.stacks if stack.n_layers(config)]
    assert found.family.post_norm == any(stack.post_norm for stack in stacks)
    # OPT's record serves releases that take none.
    assert found.family.takes_position_ids == (record.takes_position_ids or name == "opt")


@each_variant
def test_the_head_that_is_found_gives_the_logits(name, variant):
    checkpoint, written, found = runners(name, variant)
    head, model = found.family.head, written.model
    prompt = bank(Vocabulary.of(checkpoint.config, padding=False))[0]
    with numerics_of("exact"), torch.no_grad():
        hidden, logits = found.last_hidden(prompt)
        made = rebuilt(found.family, model, hidden, head.declared(model))
    assert head.is_known
    assert torch.equal(made, logits)
    assert bool(head.finish) == bool(final_norm_of(written.family, model))


def test_experts_that_are_looked_up_have_a_router_and_nothing_inside():
    _, written, found = runners("doge", "experts")
    missing = {site.split(".", 2)[-1] for site in set(written.sites) - set(found.sites)}
    assert missing == set(EXPERTS)
    assert "blocks.0.mlp.router" in found.sites


@pytest.mark.parametrize("name", IN_EVERY_DTYPE)
def test_the_same_is_found_in_every_dtype(name):
    records = [runners(name, "default", dtype)[2] for dtype in DTYPES]
    assert records[0].sites == records[1].sites == records[2].sites
    first, *others = (record.family for record in records)
    for other in others:
        assert {site: tap.module for site, tap in other.taps.items()} == {
            site: tap.module for site, tap in first.taps.items()
        }
        assert other.attention == first.attention
        assert (other.layer_norm, other.rotary) == (first.layer_norm, first.rotary)
