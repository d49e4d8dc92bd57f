import dataclasses
import math

import pytest
from planting import SDPA, SITE, scaled

from harness.bounds import EXACT_BOUND
from harness.errors import RunFolderError
from harness.judge.gate import gate
from harness.judge.moves import drift_at, moves_of
from harness.measure.kernels import BUCKETS

EXACT, FLOAT32 = SDPA
SCORES, PATTERN = "blocks.1.attn.attn_scores", "blocks.1.attn.pattern"
CASE = ("gpt2", "default", "synthetic", "cpu")


def axes_of(cell):
    return {
        "cell_id": cell.id,
        "family": "gpt2",
        "variant": "default",
        "checkpoint": "synthetic",
        "loading_mode": cell.loading_mode,
        "dtype": cell.dtype,
        "device": "cpu",
    }


def with_oracle(side, site, **changes):
    """Give a side whose oracle has other numbers at a site."""
    key = (CASE, "exact", "reference")
    rows = dict(side.references[key])
    rows[site, "equal"] = {**rows[site, "equal"], "digest": 1, **changes}
    return dataclasses.replace(side, references={**side.references, key: rows})


def with_port(side, site, *, cell=EXACT, **changes):
    rows = dict(side.ports[cell.id])
    rows[site] = {**rows[site], "digest": 1, **changes}
    return dataclasses.replace(side, ports={**side.ports, cell.id: rows})


def oracle_at(side, site):
    return side.references[CASE, "exact", "reference"][site, "equal"]


def shifted(side, site, by):
    """Give a site's sketch moved by a share of its norm."""
    row = oracle_at(side, site)
    return [row["sketch"][0] + by * row["norm"], *row["sketch"][1:]]


def reference_sites(old, new, cell=EXACT):
    return [move.site for move in moves_of(axes_of(cell), old, new).reference]


def test_the_same_rows_have_not_moved(clean):
    for cell in SDPA:
        found = moves_of(axes_of(cell), clean, clean)
        assert (found.reference, found.port, found.newly_failing, found.lost) == ((), (), (), ())
        assert (found.changed_reference, found.changed_port) == ((), ())


@pytest.mark.parametrize(("share", "moves"), [(0.5, []), (2.0, [SITE])])
def test_the_reference_moves_where_its_sketch_moves_by_more_than_the_exact_bound(
    share, moves, clean
):
    new = with_oracle(clean, SITE, sketch=shifted(clean, SITE, share * EXACT_BOUND))
    assert reference_sites(clean, new) == moves
    assert moves_of(axes_of(EXACT), clean, new).changed_reference == (SITE,)


def test_a_site_that_the_port_does_not_have_is_followed_in_the_reference(clean):
    assert PATTERN not in clean.ports[EXACT.id]  # sdpa has no patterns to read
    new = with_oracle(clean, PATTERN, sketch=shifted(clean, PATTERN, 1e-3))
    assert reference_sites(clean, new) == [PATTERN]


def test_where_another_mask_is_used_the_pattern_is_named_and_not_the_scores(clean):
    scores = oracle_at(clean, SCORES)
    new = with_oracle(clean, PATTERN, sketch=shifted(clean, PATTERN, 1e-3))
    masked = {"masked": scores["masked"] + 1, "n_values": scores["n_values"] - 1}
    assert reference_sites(clean, with_oracle(new, SCORES, **masked)) == [PATTERN]
    assert (
        gate(clean, with_oracle(new, SCORES, **masked), [EXACT.id]).cells[0].first_site == PATTERN
    )


def test_where_the_same_mask_is_used_the_scores_are_named(clean):
    new = with_oracle(clean, PATTERN, sketch=shifted(clean, PATTERN, 1e-3))
    new = with_oracle(new, SCORES, sketch=shifted(clean, SCORES, 1e-3))
    assert reference_sites(clean, new) == [SCORES, PATTERN]


@pytest.mark.parametrize("changes", [{"n_values": 1}, {"nonfinite": 1}])
def test_other_values_that_count_are_an_infinite_move(changes, clean):
    new = with_oracle(clean, SITE, **changes)
    assert drift_at(axes_of(EXACT), SITE, clean, new) == (math.inf, 0.0)


def test_what_moves_away_from_zero_moves_infinitely_far_or_nearly(clean):
    nothing = with_oracle(clean, SITE, norm=0.0, sketch=[0.0] * BUCKETS)
    assert drift_at(axes_of(EXACT), SITE, nothing, clean)[0] > 1e290


def test_a_port_that_agrees_on_both_sides_went_where_the_reference_went(clean):
    new = with_oracle(clean, SITE, sketch=shifted(clean, SITE, 1e-3))
    new = with_port(new, SITE)
    reference, port = drift_at(axes_of(EXACT), SITE, clean, new)
    assert reference == port == pytest.approx(1e-3)


def test_a_port_that_stays_while_its_reference_leaves_has_not_moved(clean, measured):
    new = measured(reference=scaled(1e-3))
    found = moves_of(axes_of(EXACT), clean, new)
    assert (found.reference[0].site, found.port) == (SITE, ())
    assert SITE in found.newly_failing


def test_a_port_that_is_as_wrong_as_before_has_not_moved(measured):
    wrong = measured(port=scaled(1e-3))
    found = moves_of(axes_of(EXACT), wrong, with_port(wrong, SITE, failed=True))
    assert (found.port, found.was_wrong, found.is_wrong) == ((), True, True)


@pytest.mark.parametrize("cell", SDPA, ids=str)
def test_a_port_that_is_wrong_in_another_way_has_moved_by_the_difference(cell, measured):
    old, new = measured(port=scaled(1e-3)), measured(port=scaled(-1e-3))
    move = moves_of(axes_of(cell), old, new).port[0]
    assert (move.site, move.rounds) == (SITE, False)
    assert move.drift == pytest.approx(2e-3, rel=0.5)


def test_a_port_that_fails_at_a_site_fails_newly_though_its_drift_is_small(clean):
    new = with_port(clean, SITE, failed=True)
    assert moves_of(axes_of(EXACT), clean, new).newly_failing == (SITE,)


@pytest.mark.parametrize(("factor", "moves"), [(3.0, []), (30.0, [SITE])])
def test_the_references_error_may_not_grow_past_the_bound(factor, moves, clean):
    error = clean.ports[FLOAT32.id][SITE]["reference_error"]
    new = with_port(clean, SITE, cell=FLOAT32, reference_error=factor * error)
    assert reference_sites(clean, new, FLOAT32) == moves
    assert all(move.rounds for move in moves_of(axes_of(FLOAT32), clean, new).reference)


def test_a_site_that_is_lost_is_named(clean):
    rows = {site: row for site, row in clean.ports[EXACT.id].items() if site != SITE}
    new = dataclasses.replace(clean, ports={**clean.ports, EXACT.id: rows})
    assert moves_of(axes_of(EXACT), clean, new).lost == (SITE,)
    assert moves_of(axes_of(EXACT), new, clean).lost == ()


def test_another_question_is_never_compared(clean):
    new = with_port(clean, SITE, question=1)
    with pytest.raises(RunFolderError, match="were asked different questions"):
        moves_of(axes_of(EXACT), clean, new)


def test_a_fingerprint_that_is_not_there_is_named(clean):
    key = (CASE, "exact", "reference")
    rows = {name: row for name, row in clean.references[key].items() if name[0] != SITE}
    new = dataclasses.replace(clean, references={**clean.references, key: rows}, name="candidate")
    with pytest.raises(RunFolderError, match=f"candidate has no fingerprint of {SITE}"):
        moves_of(axes_of(EXACT), clean, with_port(new, SITE))


def test_a_site_in_other_coordinates_is_followed_in_these(clean):
    key = (CASE, "exact", "reference")
    rows = dict(clean.references[key])
    centred = rows["logits", "shift"]
    rows["logits", "shift"] = {**centred, "digest": 1, "sketch": [1.0] * 32}
    new = dataclasses.replace(clean, references={**clean.references, key: rows})
    as_is, of_port = drift_at(axes_of(EXACT), "logits", clean, with_port(new, "logits"))
    assert (as_is, of_port) == (0.0, 0.0)
