import dataclasses
import math

import pytest
import torch

from harness import bounds
from harness.case import Case, Cell, Limitation, Prompt
from harness.errors import CaptureError
from harness.measure import shelf
from harness.measure.comparer import CellComparer, entries
from harness.measure.prompts import Vocabulary, bank
from harness.measure.references import Reference, References
from harness.models.ports import load_port
from harness.models.text_config import text_config

INF = math.inf
BATCH = Prompt.unpadded(((5, 6, 7), (8, 9, 10)), origin="a test")
PADDED = Prompt(
    tokens=((5, 6, 7), (3, 9, 10)), attention_mask=((1, 1, 1), (0, 1, 1)), origin="a test"
)
REAL = torch.tensor(PADDED.attention_mask).bool()


def counted(site, *shape, prompt=PADDED):
    tensor = torch.zeros(shape)
    return entries(tensor, tensor, prompt, site, dtype="float32")[2]


def scores_of(actual, expected, *, dtype="float32"):
    """Compare one row of scores over two keys, [1, 1, 1, 2]; give both and which count."""
    sides = [torch.tensor(side).view(1, 1, 1, 2) for side in (actual, expected)]
    prompt = Prompt.unpadded(((5,),), origin="a test")
    found = entries(*sides, prompt, "blocks.0.attn.attn_scores", dtype=dtype)
    return [tensor.flatten().tolist() for tensor in found]


@pytest.mark.parametrize("site", ["blocks.0.resid_pre", "blocks.0.mlp.post", "logits"])
def test_padding_does_not_count_in_a_tensor_by_position(site):
    assert torch.equal(counted(site, 2, 3, 20), REAL[..., None].expand(2, 3, 20))


def test_padding_does_not_count_in_a_tensor_by_position_and_head():
    counts = counted("blocks.0.attn.q", 2, 3, 5, 4)
    assert torch.equal(counts, REAL[..., None, None].expand(2, 3, 5, 4))


@pytest.mark.parametrize("name", ["attn_scores", "pattern"])
def test_padding_does_not_count_among_the_queries_of_an_attention_matrix(name):
    counts = counted(f"blocks.0.attn.{name}", 2, 5, 3, 3)
    assert torch.equal(counts, REAL[:, None, :, None].expand(2, 5, 3, 3))


def test_without_padding_everything_counts():
    assert counted("blocks.0.attn.q", 2, 3, 5, 4, prompt=BATCH).all()


def test_where_one_row_stands_for_all_a_position_counts_that_is_real_in_all():
    assert counted("pos_embed", 1, 3, 20)[0, :, 0].tolist() == [False, True, True]


def test_a_decoder_that_reads_an_encoder_has_no_padding_of_its_own():
    assert counted("decoder_blocks.0.resid_pre", 2, 3, 20).all()


@pytest.mark.parametrize("name", ["k", "v"])
def test_keys_and_values_of_cross_attention_have_the_padding_of_the_encoder(name):
    counts = counted(f"decoder_blocks.0.cross_attn.{name}", 2, 3, 5, 4)
    assert torch.equal(counts, REAL[..., None, None].expand(2, 3, 5, 4))
    assert counted("decoder_blocks.0.cross_attn.q", 2, 3, 5, 4).all()


def test_one_row_of_the_port_is_compared_with_every_row_of_the_reference():
    one, many = torch.zeros(1, 3, 20), torch.ones(2, 3, 20)
    actual, expected, counts = entries(one, many, BATCH, "pos_embed", dtype="float32")
    assert actual.shape == expected.shape == counts.shape == (2, 3, 20)


def test_shapes_that_do_not_fit_are_told_with_their_site():
    port, reference = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 5, 4)
    with pytest.raises(CaptureError, match=r"blocks\.0\.attn\.q: .* 2x3x4x5, .* 2x3x5x4"):
        entries(port, reference, BATCH, "blocks.0.attn.q", dtype="float32")


LOWEST = torch.finfo(torch.float32).min


@pytest.mark.parametrize("masked", [-INF, LOWEST, LOWEST * 0.75])
@pytest.mark.parametrize("also", [-INF, LOWEST])
def test_what_is_masked_out_on_both_sides_does_not_count_however_it_is_written(masked, also):
    assert scores_of([1.0, masked], [1.0, also])[2] == [True, False]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("exact", torch.float64), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_a_mask_is_written_in_the_numbers_of_its_dtype(dtype, kind):
    lowest = torch.finfo(kind).min
    assert scores_of([1.0, lowest], [1.0, -INF], dtype=dtype)[2] == [True, False]


def test_what_one_side_alone_masks_out_counts_and_is_infinite():
    assert scores_of([1.0, LOWEST], [1.0, 2.0]) == [[1.0, -INF], [1.0, 2.0], [True, True]]
    assert scores_of([1.0, 2.0], [1.0, LOWEST]) == [[1.0, 2.0], [1.0, -INF], [True, True]]


@pytest.mark.parametrize("score", [-1e4, -1e9])
def test_a_low_score_that_is_no_mask_counts(score):
    assert scores_of([1.0, score], [1.0, score])[2] == [True, True]


@pytest.fixture(scope="module")
def references():
    return References()


def comparer_of(references, dtype="float32", *, limitations=()):
    cell = Cell(
        case=Case(family="gpt2", limitations=limitations), loading_mode="hf_sdpa", dtype=dtype
    )
    reference = references.of(cell)
    return CellComparer(cell, reference=reference, port=load_port(cell, reference.checkpoint))


@pytest.fixture(scope="module")
def comparer(references):
    return comparer_of(references)


def a_row(site="blocks.0.resid_post", **changes):
    row = {"site": site, "rel_l2": 1e-7, "port_error": 2e-6, "reference_error": 1e-6}
    return {**row, "tensor_shape": "2x3x20", "n_compared": 10**6, "chance_factor": 1.0, **changes}


def test_a_port_without_attention_matrices_is_compared_at_all_other_sites(comparer):
    assert "logits" in comparer.compared
    assert all("pattern" not in site and "scores" not in site for site in comparer.compared)
    assert {*comparer.compared, *comparer.missing} == set(comparer.reference.runner.sites)


def test_there_is_a_row_for_every_site_in_forward_order(comparer):
    rows = comparer.distances(BATCH)
    assert tuple(row["site"] for row in rows) == comparer.compared


@pytest.mark.parametrize(
    ("changes", "ratio"),
    [
        ({}, 2.0),
        ({"port_error": 5e-6}, 5.0),
        ({"reference_error": 4e-6}, 0.5),
        ({"reference_error": 0.0}, 2e-6 / bounds.error_floor("float32")),
        ({"reference_error": 0.0, "port_error": 0.0}, 0.0),
    ],
)
def test_a_ports_error_is_judged_by_the_references_or_by_one_rounding(changes, ratio, references):
    row = comparer_of(references).judged(a_row(**changes))
    assert row["error_ratio"] == pytest.approx(ratio)
    assert row["verdict"] == ("pass" if ratio <= row["bound"] else "fail")


def test_a_reference_that_was_lucky_on_one_prompt_is_judged_by_what_is_typical(references):
    comparer = comparer_of(references)
    errors = (3e-6, 4e-6, 0.0)
    comparer.learn_typical_errors([BATCH], [[a_row(reference_error=error) for error in errors]])
    row = comparer.judged(a_row(reference_error=0.0, port_error=5e-6))
    assert row["typical_error"] == pytest.approx(5e-6 / math.sqrt(3))
    assert row["error_ratio"] == pytest.approx(math.sqrt(3))


def test_few_values_are_allowed_what_chance_does_to_them(comparer):
    few, many = (
        comparer.judged(a_row(chance_factor=bounds.chance_factor(number))) for number in (4, 10**6)
    )
    assert few["bound"] > 2 * many["bound"]


def test_what_chance_does_is_that_of_the_values_that_carry_the_norm(comparer):
    one = Prompt.unpadded(((5,),), origin="a test")
    rows = {row["site"]: row for row in comparer.distances(one, keep=False)}
    row = rows["blocks.0.resid_post"]
    values = comparer.reference.oracle.activations(one, keep=False)["blocks.0.resid_post"]
    carrying = float(values.pow(2).sum() ** 2 / values.pow(4).sum())
    assert 1 < carrying < row["n_compared"]
    assert row["chance_factor"] == pytest.approx(bounds.chance_factor(carrying))


@pytest.mark.parametrize(("largest", "values"), [(1.0, 120), (1e4, 1)])
def test_one_value_that_carries_the_norm_leaves_its_error_to_chance(largest, values, references):
    comparer = comparer_of(references)
    site = "blocks.0.resid_post"
    true = torch.ones(2, 3, 20, dtype=torch.float64)
    true[0, 0, 0] = largest
    prompt = Prompt.unpadded(((5, 6, 7), (8, 9, 11 + values)), origin="a test")
    row, *_ = comparer._distance(
        prompt, site, true.float(), true.float(), true, untouched=None, fingerprinted=False
    )
    assert row["chance_factor"] == pytest.approx(bounds.chance_factor(values), rel=1e-3)


@pytest.mark.parametrize(
    "changes", [{"rel_l2": INF}, {"port_error": INF}, {"port_error": INF, "reference_error": INF}]
)
def test_what_is_infinitely_far_fails_whatever_it_is_divided_by(changes, comparer):
    assert comparer.judged(a_row(**changes))["verdict"] == "fail"


def test_nothing_compared_is_no_division_by_zero(comparer):
    assert comparer.judged(a_row(n_compared=0, rel_l2=INF, port_error=INF))["verdict"] == "fail"


@pytest.mark.parametrize(("rel_l2", "verdict"), [(1e-13, "pass"), (1e-10, "fail")])
def test_in_exact_mode_the_distance_itself_is_judged(rel_l2, verdict, references):
    row = comparer_of(references, "exact").judged(a_row(rel_l2=rel_l2, port_error=rel_l2))
    assert (row["bound"], row["verdict"]) == (bounds.EXACT_BOUND, verdict)


def test_the_first_failure_is_the_earliest_site_and_there_the_smallest_prompt(comparer):
    rows = [
        a_row("logits", verdict="fail", tensor_shape="1x1x20"),
        a_row("blocks.1.attn_out", verdict="fail", tensor_shape="2x9x20"),
        a_row("blocks.1.attn_out", verdict="fail", tensor_shape="1x7x20"),
        a_row("embed", verdict="pass", tensor_shape="1x1x20"),
    ]
    assert comparer.first_failure(rows) is rows[2]
    assert comparer.first_failure(rows[3:]) is None


def test_a_site_that_differs_by_itself_is_not_the_first_failure(references):
    local = Limitation(
        outcome="local", sites=("attn_out",), reason="a test", link="", until="pytest>9999"
    )
    comparer = comparer_of(references, limitations=(local,))
    rows = [a_row(site, verdict="fail") for site in ("blocks.1.attn_out", "logits")]
    assert comparer.first_failure(rows)["site"] == "logits"
    assert comparer.first_failure(rows[:1]) is None


def test_the_reference_errs_alike_whatever_the_port(references):
    before = {
        row["site"]: row["reference_error"] for row in comparer_of(references).distances(BATCH)
    }
    references.of(comparer_of(references).cell).errors.clear()
    after = {
        row["site"]: row["reference_error"] for row in comparer_of(references).distances(BATCH)
    }
    assert before == after
    assert max(before.values()) < 1e-5


def test_a_flip_at_padding_leaves_nothing_unjudged(references):
    """What mixtral computes at left padding differs between eager and fused attention."""
    cell = Cell(case=Case(family="mixtral"), loading_mode="hf_sdpa", dtype="float32")
    reference = references.of(cell)
    comparer = CellComparer(cell, reference=reference, port=load_port(cell, reference.checkpoint))
    vocabulary = Vocabulary.of(reference.checkpoint.config, padding=True)
    prompt = next(p for p in bank(vocabulary) if p.origin == "bank:left_padding")
    rows = {row["site"]: row["n_compared"] for row in comparer.distances(prompt)}
    assert (comparer.routing_flips, comparer.unjudged) == (0, 0)
    assert rows["logits"] == sum(map(sum, prompt.attention_mask)) * vocabulary.size


def test_behind_a_flip_at_the_first_token_after_padding_nothing_is_left_to_judge(references):
    cell = Cell(case=Case(family="mixtral"), loading_mode="hf_eager", dtype="float32")
    reference = references.of(cell)
    port = load_port(cell, reference.checkpoint)
    # The router's weights upside down: every token goes to other experts.
    with torch.no_grad():
        port.model.get_submodule("model.layers.0.mlp.gate").weight.neg_()
    comparer = CellComparer(cell, reference=reference, port=port)
    prompt = Prompt(tokens=((3, 6, 7),), attention_mask=((0, 1, 1),), origin="a test")
    rows = {row["site"] for row in comparer.distances(prompt)}
    assert "blocks.0.mlp.router" in rows
    assert not rows.intersection({"blocks.0.mlp_out", "blocks.1.attn.q", "logits"})
    assert comparer.unjudged == len(comparer.compared) - len(rows)


def test_what_a_found_record_could_not_tell_counts_as_missing(references):
    reference = comparer_of(references).reference
    runner, told = reference.runner, reference.runner.family
    runner.family = dataclasses.replace(told, unidentified={"blocks.0.attn.q": "a reason"})
    try:
        assert "blocks.0.attn.q" in comparer_of(references).missing
    finally:
        runner.family = told
    assert "blocks.0.attn.q" not in comparer_of(references).missing


def test_a_softcap_in_the_text_part_of_a_composite_config_counts(references, monkeypatch):
    cell = Cell(case=Case(family="gpt2"), loading_mode="bridge_compat", dtype="exact")
    reference = references.of(cell)
    port = load_port(cell, reference.checkpoint)
    told = []
    for capped in ({}, {"text_config": {"vocab_size": 5, "final_logit_softcapping": 30.0}}):
        monkeypatch.setattr(Reference, "config", property(lambda _, c=capped: text_config(c)))
        told.append(CellComparer(cell, reference=reference, port=port).relations["logits"].kind)
    assert told == ["shift", "equal"]


def test_a_reference_that_is_its_own_oracle_runs_a_prompt_once(monkeypatch):
    monkeypatch.setattr(shelf, "IN_MEMORY", 0)  # as a large model's activations are: not kept
    cell = Cell(case=Case(family="gpt2"), loading_mode="hf_sdpa", dtype="exact")
    reference = References().of(cell)
    comparer = CellComparer(
        cell, reference=reference, port=load_port(cell, reference.checkpoint), forced=False
    )
    ran = []
    run = reference.runner.run
    monkeypatch.setattr(reference.runner, "run", lambda *asked: ran.append(1) or run(*asked))
    assert comparer.distances(BATCH)
    assert ran == [1]
