import dataclasses
import math

import pytest
import torch
from planting import (
    LATER,
    LATER_MODULE,
    PROMPTS,
    SDPA,
    SITE,
    as_it_is,
    breaking_off_in_exact,
    cells_of,
    other_weights,
    raising,
    rounded,
    scaled,
    spoiled,
    without,
)

from harness.errors import RunFolderError
from harness.judge.gate import Change, _movers, gate
from harness.measure.fingerprint import STANDARD_ERROR

EXACT, FLOAT32 = (cell.id for cell in SDPA)
BRIDGE = cells_of("bridge", dtypes=("exact",))
IN_FLOAT32 = {"dtype": torch.float32}
WHAT = ("verdict", "worse", "attribution", "nature", "first_site")
WITHIN = 4 * STANDARD_ERROR
"""A sketch is farther off than four standard errors once in sixteen thousand times."""


@pytest.fixture
def gated(clean, measured):
    """Give a function that gates cells with faults planted against cells with none."""

    def ask(old=clean, **planted):
        return gate(old, measured(**planted), [EXACT, FLOAT32])

    return ask


def of(found, cell_id=EXACT):
    return next(cell for cell in found.cells if cell.cell_id == cell_id)


def told(found, *names, cell_id=EXACT):
    return tuple(getattr(of(found, cell_id), name) for name in names)


def with_cell(side, cell_id=EXACT, **changes):
    return dataclasses.replace(
        side, cells={**side.cells, cell_id: {**side.cells[cell_id], **changes}}
    )


def lacking(side, *cell_ids):
    """Give a side that does not have cells, or that has no numbers of them."""
    cells = {name: row for name, row in side.cells.items() if name not in cell_ids}
    return dataclasses.replace(unmeasured(side, *cell_ids), cells=cells)


def unmeasured(side, *cell_ids, verdict="error"):
    ports = {name: rows for name, rows in side.ports.items() if name not in cell_ids}
    side = dataclasses.replace(side, ports=ports)
    for cell_id in cell_ids:
        side = with_cell(side, cell_id, verdict=verdict, reason=f"it is {verdict}")
    return side


def with_packages(side, **versions):
    packages = {name.replace("_", "-"): version for name, version in versions.items()}
    return dataclasses.replace(side, packages=packages)


def verdicts(found):
    return [cell.verdict for cell in found.cells]


def test_what_is_measured_twice_is_unchanged(gated):
    found = gated(port=as_it_is)
    assert verdicts(found) == ["unchanged", "unchanged"]
    assert (found.overall, found.exit_code, found.worse) == ("not worse", 0, ())
    assert told(found, "attribution", "nature", "first_site", "moved_by") == ("none", "", None, ())


@pytest.mark.parametrize("side", ["port", "reference"])
@pytest.mark.parametrize("cell_id", [EXACT, FLOAT32])
def test_a_change_of_the_last_place_is_rounding_and_not_worse(side, cell_id, gated):
    found = gated(**{side: rounded()})
    expected = ("rounding", False, side, "rounding", SITE)
    assert told(found, *WHAT, cell_id=cell_id) == expected
    assert found.exit_code == 0


@pytest.mark.parametrize("cell_id", [EXACT, FLOAT32])
@pytest.mark.parametrize("by", [1e-9, 1e-6, 1e-3])
def test_a_reference_that_computes_something_else_has_moved_at_its_site(by, cell_id, gated):
    found = gated(reference=scaled(by))
    expected = ("reference_moved", True, "reference", "meaning", SITE)
    assert told(found, *WHAT, cell_id=cell_id) == expected
    assert found.exit_code == 1


@pytest.mark.parametrize(("cell_id", "by"), [(EXACT, 1e-9), (EXACT, 1e-3), (FLOAT32, 1e-3)])
def test_a_port_that_computes_something_else_has_moved_at_its_site(by, cell_id, gated):
    found = gated(port=scaled(by))
    expected = ("port_moved", True, "port", "meaning", SITE)
    assert told(found, *WHAT, cell_id=cell_id) == expected
    assert found.exit_code == 1


@pytest.mark.parametrize("side", ["port", "reference"])
def test_how_far_a_side_moved_is_right_within_the_sketchs_error(side, gated):
    found = of(gated(**{side: scaled(1e-6)}))
    drifts = {"reference": found.drift_reference, "port": found.drift_port}
    assert found.drift == drifts.pop(side) == pytest.approx(1e-6, rel=WITHIN)
    assert list(drifts.values()) == [0]


def test_how_far_the_logits_moved_is_told_as_well(gated):
    found = gated(port=scaled(1e-6))
    assert 0 < of(found).drift_logits < of(found).drift


def test_the_first_of_two_sites_is_named(gated):
    late, early = scaled(1e-6, module=LATER_MODULE), scaled(1e-6)
    assert of(gated(port=late)).first_site == LATER
    assert of(gated(port=lambda runner: early(late(runner)))).first_site == SITE


def test_the_first_site_is_that_of_the_side_that_moved_first(gated):
    late, early = scaled(1e-6, module=LATER_MODULE), scaled(1e-6)
    assert told(gated(port=late, reference=early), "verdict", "first_site") == ("both_moved", SITE)


def test_sides_that_move_together_are_both_named(measured, tmp_path):
    old = measured(BRIDGE, name="baseline")
    new = measured(BRIDGE, checkpoint=other_weights(tmp_path / "weights"))
    found = gate(old, new, [BRIDGE[0].id])
    assert told(found, *WHAT, cell_id=BRIDGE[0].id) == (
        "both_moved",
        True,
        "both",
        "meaning",
        SITE,
    )
    assert found.exit_code == 1


def test_what_transformers_changes_on_both_of_its_paths_is_the_references(gated, tmp_path):
    found = gated(checkpoint=other_weights(tmp_path / "weights"))
    assert {told(found, "verdict", "attribution", cell_id=name) for name in (EXACT, FLOAT32)} == {
        ("reference_moved", "reference")
    }


def test_a_port_that_raises_broke_and_its_words_are_the_reason(gated):
    found = gated(port=raising("by zero"))
    assert told(found, "verdict", "worse", "attribution") == ("broke", True, "port")
    assert "by zero" in of(found).reason
    assert found.exit_code == 1


def test_a_port_that_was_wrong_and_is_right_now_is_fixed(clean, measured):
    found = gate(measured(port=scaled(1e-3)), clean, [EXACT, FLOAT32])
    assert verdicts(found) == ["fixed", "fixed"]
    assert told(found, "worse", "attribution", "first_site") == (False, "port", SITE)
    assert found.exit_code == 0


def test_a_reference_that_moves_to_where_its_port_is_is_for_a_person_to_accept(clean, measured):
    found = gate(measured(reference=scaled(1e-3)), clean, [EXACT])
    assert told(found, "verdict", "worse", "attribution") == ("reference_moved", True, "reference")


def test_a_port_is_not_fixed_by_a_reference_whose_error_has_grown(measured):
    wrong = scaled(1e-3, **IN_FLOAT32)
    found = gate(measured(port=wrong), measured(port=wrong, reference=wrong), [FLOAT32])
    assert told(found, "verdict", "worse", cell_id=FLOAT32) == ("reference_moved", True)


@pytest.mark.parametrize("verdict", ["pass", "known", "stale"])
def test_a_port_that_raised_and_does_no_more_is_fixed(verdict, clean):
    found = gate(unmeasured(clean, EXACT), with_cell(clean, verdict=verdict), [EXACT])
    assert told(found, "verdict", "worse") == ("fixed", False)
    assert "it is error" in of(found).reason


@pytest.mark.parametrize("wrong", [False, True])
def test_a_cell_that_only_the_new_side_has_appeared_and_is_worse_where_it_is_wrong(wrong, clean):
    new = with_cell(clean, verdict="fail" if wrong else "pass")
    for old in (lacking(clean, EXACT), unmeasured(clean, EXACT, verdict="unavailable")):
        found = gate(old, new, [EXACT])
        assert told(found, "verdict", "worse") == ("appeared", wrong)


def test_a_cell_that_raised_and_is_wrong_now_is_worse(clean):
    found = gate(unmeasured(clean, EXACT), with_cell(clean, verdict="fail"), [EXACT])
    assert told(found, "verdict", "worse") == ("appeared", True)


def test_a_cell_that_the_new_side_lacks_vanished(clean):
    found = gate(clean, lacking(clean, EXACT), [EXACT, FLOAT32])
    assert verdicts(found) == ["vanished", "unchanged"]
    assert (of(found).worse, found.exit_code) == (True, 1)


def test_a_cell_that_cannot_be_measured_any_more_broke(clean):
    found = gate(clean, unmeasured(clean, EXACT, verdict="unavailable"), [EXACT])
    assert told(found, "verdict", "worse") == ("broke", True)


def test_where_no_cell_has_numbers_on_either_side_nothing_was_asked(clean):
    empty = unmeasured(clean, EXACT, FLOAT32)
    found = gate(empty, empty, [EXACT, FLOAT32])
    assert verdicts(found) == ["unmeasured", "unmeasured"]
    assert (found.overall, found.exit_code) == ("not asked", 2)


def test_a_gate_without_cells_was_not_asked(clean):
    assert gate(clean, clean, []).exit_code == 2


def test_a_cell_unmeasured_beside_one_that_is_unchanged_is_not_worse(clean):
    empty = unmeasured(clean, EXACT)
    found = gate(empty, empty, [EXACT, FLOAT32])
    assert (verdicts(found), found.exit_code) == (["unmeasured", "unchanged"], 0)


def test_a_cell_that_nobody_has_is_refused(clean):
    with pytest.raises(RunFolderError, match="neither baseline nor baseline has it"):
        gate(clean, clean, ["gpt3-default.bridge.exact"])


def test_a_site_that_is_lost_is_named_and_worse(gated):
    found = gated(port=without(SITE))
    assert told(found, "verdict", "worse", "lost_sites") == ("vanished", True, (SITE,))
    assert SITE in of(found).reason


def test_a_site_that_is_lost_hides_no_move(gated):
    found = gated(port=lambda runner: without(SITE)(scaled(1e-3, module=LATER_MODULE)(runner)))
    assert told(found, "verdict", "first_site", "lost_sites") == ("port_moved", LATER, (SITE,))


def test_a_port_whose_wrong_site_is_lost_is_not_fixed(clean, measured):
    old, new = measured(port=scaled(1e-3), name="old"), measured(port=without(SITE))
    assert told(gate(old, new, [EXACT]), "verdict", "worse") == ("vanished", True)
    assert of(gate(old, clean, [EXACT])).verdict == "fixed"


def test_a_site_that_the_port_gained_is_not_worse(clean, measured):
    found = gate(measured(port=without(SITE)), clean, [EXACT])
    assert told(found, "verdict", "worse") == ("unchanged", False)


def test_a_site_that_the_port_gained_and_gets_wrong_is_worse(clean, measured):
    rows = clean.ports[EXACT]
    wrong = {**rows, SITE: {**rows[SITE], "failed": True}}
    after = dataclasses.replace(clean, ports={**clean.ports, EXACT: wrong})
    found = gate(measured(port=without(SITE)), after, [EXACT])
    assert told(found, "verdict", "worse", "first_site") == ("port_moved", True, SITE)


def test_what_is_only_new_was_held_against_nothing(clean):
    new = gate(lacking(clean, EXACT), clean, [EXACT])
    assert (verdicts(new), new.overall, new.exit_code) == (["appeared"], "not asked", 2)
    beside = gate(lacking(clean, EXACT), clean, [EXACT, FLOAT32])
    assert (verdicts(beside), beside.exit_code) == (["appeared", "unchanged"], 0)


def test_another_prompt_is_another_question(gated):
    with pytest.raises(RunFolderError, match="were asked different questions"):
        gated(prompts=PROMPTS[:2])


def test_other_weights_are_another_question(gated, tmp_path):
    with pytest.raises(RunFolderError, match="were asked different questions"):
        gated(checkpoint=other_weights(tmp_path / "weights", digest="another"))


@pytest.mark.parametrize(
    ("twin", "nature"), [({}, "meaning"), (IN_FLOAT32, "rounding")], ids=["moves", "does not"]
)
def test_a_port_that_moves_in_a_low_dtype_is_explained_by_its_exact_twin(twin, nature, gated):
    found = gated(port=scaled(1e-3, **twin))
    assert told(found, "verdict", "nature", cell_id=FLOAT32) == ("port_moved", nature)


def test_a_port_that_moves_in_a_low_dtype_without_a_twin_is_not_explained(clean, measured):
    new = lacking(measured(port=scaled(1e-3)), EXACT)
    assert told(gate(clean, new, [FLOAT32]), "nature", cell_id=FLOAT32) == ("unknown",)


def test_a_reference_that_rounds_too_much_has_moved_by_rounding_and_by_its_error(gated):
    found = gated(reference=scaled(1e-3, **IN_FLOAT32))
    expected = ("reference_moved", True, "reference", "rounding", SITE)
    assert told(found, *WHAT, cell_id=FLOAT32) == expected
    assert of(found, FLOAT32).drift == pytest.approx(1e-3, rel=0.01)
    assert of(found).verdict == "unchanged"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["port", "reference"])
@pytest.mark.parametrize("cell_id", [EXACT, FLOAT32])
def test_a_value_that_is_finite_no_more_is_an_infinite_move(side, value, cell_id, gated):
    found = gated(**{side: spoiled(value)})
    names = ("verdict", "first_site", "drift")
    assert told(found, *names, cell_id=cell_id) == (f"{side}_moved", SITE, math.inf)


def test_a_value_that_is_finite_again_is_fixed(clean, measured):
    for side in ("port", "reference"):
        found = gate(measured(name=side, **{side: spoiled(math.nan)}), clean, [EXACT])
        assert told(found, "verdict", "drift", "attribution") == ("fixed", math.inf, side)


def test_a_value_that_neither_side_has_finite_is_unchanged(measured):
    spoil = {"port": spoiled(math.nan), "reference": spoiled(math.nan)}
    found = gate(measured(name="old", **spoil), measured(**spoil), [EXACT])
    assert told(found, "verdict", "worse") == ("unchanged", False)


@pytest.mark.parametrize("side", ["port", "reference"])
@pytest.mark.parametrize(("longer_than", "origin"), [(0, "short"), (2, "two rows"), (3, "long")])
def test_the_smallest_prompt_that_shows_it_is_named(side, longer_than, origin, gated):
    prompt = of(gated(**{side: scaled(1e-3, longer_than=longer_than)})).prompt
    asked = next(each for each in PROMPTS if each.origin == origin)
    assert (prompt["origin"], prompt["prompt_id"]) == (origin, asked.prompt_id)
    assert prompt["tokens"] == [list(row) for row in asked.tokens]
    assert prompt["attention_mask"] == [list(row) for row in asked.attention_mask]


def test_the_prompt_that_a_run_cut_down_is_named(clean, measured):
    new = measured(port=scaled(1e-3))
    cut = {**clean.prompts["gpt2-default"][2], "origin": "shrunk", "prompt_id": "smaller"}
    new = dataclasses.replace(
        with_cell(new, first_prompt_id="smaller"), smallest={EXACT: {**cut, "cell_id": EXACT}}
    )
    assert of(gate(clean, new, [EXACT])).prompt["origin"] == "shrunk"


def test_the_smallest_prompt_is_found_though_the_first_cell_broke_off(measured):
    old = measured(port=breaking_off_in_exact)
    new = measured(port=breaking_off_in_exact, reference=scaled(1e-3))
    found = gate(old, new, [EXACT, FLOAT32])
    assert verdicts(found) == ["unmeasured", "reference_moved"]
    assert of(found, FLOAT32).prompt["origin"] == "short"


TRANSFORMERS, LENS, TORCH = (
    Change(name=name, old="1", new="2") for name in ("transformers", "transformer-lens", "torch")
)
OLD = {"transformers": "1", "transformer_lens": "1", "torch": "1", "numpy": "1"}


@pytest.mark.parametrize(
    ("side", "mode", "changed", "named"),
    [
        ("reference", "bridge", ("transformers", "transformer_lens", "torch"), "transformers"),
        ("port", "bridge", ("transformers", "transformer_lens", "torch"), "transformer-lens"),
        ("port", "hf_sdpa", ("transformers", "transformer_lens", "torch"), "transformers"),
        ("port", "bridge", ("transformers", "numpy"), "transformers"),
        ("reference", "bridge", ("torch", "numpy"), "torch"),
        ("port", "bridge", ("numpy",), "numpy"),
    ],
)
def test_the_package_whose_code_the_side_is_moved_it_if_it_changed(side, mode, changed, named):
    changes = [Change(name=each.replace("_", "-"), old="1", new="2") for each in changed]
    assert _movers(side, mode, changes) == (f"{named} 1 → 2",)


def test_the_packages_that_differ_are_told_and_one_of_them_moved_it(clean, measured):
    old = with_packages(clean, **OLD)
    new = with_packages(measured(reference=scaled(1e-3)), **{**OLD, "transformers": "2"})
    found = gate(old, new, [EXACT])
    assert (found.packages, of(found).moved_by) == ((TRANSFORMERS,), ("transformers 1 → 2",))


def test_where_no_package_differs_none_moved_it(gated):
    found = gated(reference=scaled(1e-3))
    assert (found.packages, of(found).moved_by) == ((), ())


def test_a_package_that_one_side_lacks_is_told_as_absent(clean):
    new = with_packages(clean, **{**OLD, "torch": None})
    found = gate(with_packages(clean, **OLD), new, [EXACT])
    assert [str(change) for change in found.packages] == ["torch 1 → (absent)"]
