import pytest

from harness.judge.gate import WORSE, Gate, GateCell
from harness.searching.symptoms import judgement_on, symptoms_of

SITES = ("embed", "blocks.0.attn.attn_scores", "blocks.0.attn.pattern", "logits")
SCORES = SITES[1]


def cell(verdict, site=None, *, drift=1.0, dtype="exact", mode="hf_eager"):
    return GateCell(
        cell_id=f"gpt2.{mode}.{dtype}",
        family="gpt2",
        variant="default",
        checkpoint="synthetic",
        loading_mode=mode,
        dtype=dtype,
        device="cpu",
        verdict=verdict,
        worse=verdict in WORSE,
        first_site=site,
        drift=drift,
        reason="no module named this" if site is None else "",
    )


def gate_of(*cells):
    return Gate(baseline="good", candidate="bad", cells=cells)


PLACES = {("gpt2.hf_eager.exact", site): place for place, site in enumerate(SITES)}
MOVED = cell("reference_moved", SCORES)


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (MOVED, "bad"),
        (cell("unchanged"), "good"),
        (cell("rounding", SCORES), "good"),
        (cell("fixed", SCORES), "good"),
        (cell("both_moved", SCORES), "bad"),
        (cell("reference_moved", SCORES, drift=3e-8), "good"),
        (cell("reference_moved", "logits"), "good"),
        (cell("reference_moved", "embed"), "skipped"),
        (cell("reference_moved", "a.site.that.good.lacks"), "skipped"),
        (cell("broke"), "skipped"),
        (cell("unmeasured"), "skipped"),
    ],
)
def test_a_version_is_bad_where_it_shows_the_same_fault_again(now, outcome):
    assert judgement_on(gate_of(now), (MOVED,), PLACES).outcome == outcome


@pytest.mark.parametrize("symptom", ["vanished", "tokens_moved"])
def test_where_the_cell_breaks_it_is_not_known_whether_it_would_have_lost_anything(symptom):
    found = {
        now: judgement_on(gate_of(cell(now)), (cell(symptom),), PLACES).outcome
        for now in (symptom, "broke", "unchanged")
    }
    assert found == {symptom: "bad", "broke": "skipped", "unchanged": "good"}


@pytest.mark.parametrize(
    ("now", "outcome"), [("broke", "bad"), ("vanished", "good"), ("unchanged", "good")]
)
def test_a_port_that_broke_is_looked_for_as_such(now, outcome):
    assert judgement_on(gate_of(cell(now)), (cell("broke"),), PLACES).outcome == outcome


def test_what_is_worse_in_another_way_is_said():
    words = judgement_on(gate_of(cell("port_moved", "logits")), (MOVED,), PLACES).words
    assert words == "port_moved at logits (1); worse, in another way than the bad end"


def test_one_cell_that_shows_it_is_enough_and_the_others_are_said():
    other = cell("reference_moved", SCORES, mode="hf_sdpa")
    now = gate_of(MOVED, cell("unchanged", mode="hf_sdpa"))
    found = judgement_on(now, (MOVED, other), PLACES)
    assert found.outcome == "bad"
    assert found.words.endswith("1 of 2 cells differ: unchanged")


def test_each_kind_of_verdict_is_followed_before_a_second_cell_of_one():
    broke = cell("broke", dtype="bfloat16")
    cells = [cell("reference_moved", SCORES, mode=f"mode{n}") for n in range(6)]
    chosen = symptoms_of(gate_of(*cells, cell("unchanged", mode="x"), broke))
    assert chosen == (cells[0], broke, cells[1], cells[2])


def test_the_exact_cell_is_followed_where_there_is_one():
    low = cell("reference_moved", SCORES, dtype="bfloat16")
    assert symptoms_of(gate_of(low, MOVED), few=1) == (MOVED,)
