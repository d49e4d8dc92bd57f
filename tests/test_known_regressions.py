import csv
import dataclasses
import io

import pytest

from harness.case import DTYPES, LOADING_MODES, OFF_DEFAULT, PROBES, SHRUNK
from harness.judge.gate import VERDICTS
from harness.models.architectures import architectures
from harness.models.families import FAMILIES
from harness.record import VERDICTS as CELL_VERDICTS
from harness.selection import NONE
from harness.versions.resolving import parse_spec
from tests.known_regressions import __main__ as command
from tests.known_regressions.asking import judge
from tests.known_regressions.judging import Outcome, misses_of, score_of
from tests.known_regressions.rows import RELATION, Expected, Obtained, load_rows
from tests.known_regressions.words import line_of, table_of

ROWS = {row.id: row for row in load_rows()}
GIVEN = {name for name in ROWS if not name.startswith("H-")}
OURS = set(ROWS) - GIVEN  # found by ourselves: their facts are what their notes read in the source
LEAST_FAULTS = 30
COMPARED = {
    "TF-01",
    "TF-02",
    "TF-05",
    "TF-08",
    "TF-19",
    "TF-39",
    "TB-08",
    "TB-24",
    "R1",
    "R3",
    "R6",
}
NO_FAULTS = {"TF-36", "TF-42", "TB-25"}
PROBED = {"TF-03", "TF-12", "TF-18", "TB-01", "TB-06"}
FAULTS = COMPARED | PROBED

# As found: id, package, good, bad, families, first sites. Facts do not follow what is obtained.
FOUND = """\
TF-01|transformers|4.51.3|4.52.1|opt|blocks.0.attn.attn_scores
TF-02|transformers|5.4.0|5.3.0|gpt2|blocks.0.attn.attn_scores blocks.1.attn.attn_scores
TF-03|transformers|4.40.2|4.39.3|falcon|blocks.0.attn.pattern
TF-05|transformers|4.49.0|4.48.1|qwen2|blocks.0.attn.pattern
TF-08|transformers|4.51.3|4.50.3|gemma3|embed
TF-12|transformers|5.23.0|5.9.0|doge|blocks.0.attn.pattern
TF-18|transformers|4.54.1|4.52.4|gemma2 gemma3 cohere2|blocks.0.attn.pattern
TF-19|transformers|4.56.2|4.54.1|gpt_bigcode|blocks.0.attn.attn_scores
TF-36|transformers|4.47.1|4.48.1|mixtral|
TF-39|transformers|4.57.6|5.2.0|cohere persimmon|blocks.0.attn.rot_q
TF-42|transformers|5.3.0|5.9.0|gpt2 olmoe qwen2_moe|
TB-01|transformer-lens|3.8.0|3.7.3|gpt2|pos_embed
TB-06|transformer-lens|3.7.3|3.7.0|bloom|blocks.0.attn_out
TB-08|transformer-lens|3.7.0|3.6.0|gpt_oss|blocks.0.attn.rot_q
TB-24|transformer-lens|3.7.3|3.7.0|olmo olmoe|blocks.0.attn.q
TB-25||||gpt2|
R1|transformer-lens|2.18.0|3.2.1|mixtral|blocks.0.mlp_out
R3|transformer-lens|3.6.0|3.5.1|gemma2 gemma3|blocks.0.mlp.post
R6|transformer-lens|2.18.0|3.9.0|gemma|blocks.0.mlp.post
"""
FACTS = {fact[0]: fact[1:] for fact in csv.reader(io.StringIO(FOUND), delimiter="|")}

CELL = Obtained(
    cell_id="opt-default.hf_sdpa.exact",
    family="opt",
    variant="default",
    mode="hf_sdpa",
    dtype="exact",
    verdict="reference_moved",
    worse=True,
    attribution="reference",
    nature="meaning",
    site="blocks.0.attn.attn_scores",
    changed=frozenset({"blocks.0.attn.attn_scores", "blocks.0.attn.z"}),
    drifts=(0.6, 0.1),
)
CLEAN = dataclasses.replace(
    CELL, verdict="unchanged", worse=False, attribution="none", nature="", site=""
)


def outcome(name, *cells, **rest):
    return Outcome(row=ROWS[name], cells=cells, **rest)


def test_every_known_regression_has_its_row_and_no_row_is_there_twice():
    assert [row.id for row in load_rows()] == list(ROWS)
    assert GIVEN == set(FACTS) == FAULTS | NO_FAULTS
    assert {name for name in GIVEN if set(ROWS[name].probe) != {NONE}} == PROBED
    assert {name for name, row in ROWS.items() if row.fault} == FAULTS | OURS
    assert len(FAULTS | OURS) >= LEAST_FAULTS


@pytest.mark.parametrize("name", ROWS)
def test_every_field_of_a_row_says_something(name):
    row = ROWS[name]
    optional = {"note", "fault", "checkpoint"} | ({"bad"} if row.question == RELATION else set())
    said = {field.name for field in dataclasses.fields(row) if getattr(row, field.name)}
    assert said | optional == {field.name for field in dataclasses.fields(row)}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_row_of_ours_says_what_the_source_says(name):
    row = ROWS[name]
    assert row.note
    assert row.reference.startswith("https://github.com/") or row.reference == "seen in a run"


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_what_is_expected_is_what_was_found(name):
    package, good, bad, families, sites = FACTS[name]
    row = ROWS[name]
    specs = {row.good: f"{package}=={good}", row.bad: f"{package}=={bad}"} if package else {}
    assert all(found in spec.split() for spec, found in specs.items())
    assert row.family == tuple(families.split())
    assert {each.site for each in row.expected if each.site} == set(sites.split())


def variants_of(row, family):
    """Give a family's variants; of one that is shrunk, those that every architecture has."""
    if row.checkpoint == (SHRUNK,):
        assert family in {each.model_type for each in architectures()}
        return {"default", OFF_DEFAULT}
    return set(FAMILIES[family].variant_names)


@pytest.mark.parametrize("name", ROWS)
def test_rows_name_what_there_is(name):
    row = ROWS[name]
    variants = {family: variants_of(row, family) for family in row.family}
    assert set(row.variant) <= set.union(*variants.values())
    assert all(names.intersection(row.variant) for names in variants.values())
    assert set(row.mode) <= set(LOADING_MODES)
    assert set(row.dtype) <= set(DTYPES)
    assert set(row.probe) <= {NONE, *PROBES}
    assert all(parse_spec(spec) for spec in (row.good, row.bad) if spec)
    verdicts = CELL_VERDICTS if row.question == RELATION else VERDICTS
    assert all(set(each.verdict) <= set(verdicts) for each in row.expected)


@pytest.mark.parametrize("name", ROWS)
def test_something_is_expected_of_every_cell_of_a_row(name):
    row = ROWS[name]
    cells = [
        dataclasses.replace(
            CELL, family=family, variant=variant, mode=mode, dtype=dtype, probe=probe
        )
        for family in row.family
        for variant in set(row.variant).intersection(variants_of(row, family))
        for mode in row.mode
        for dtype in row.dtype
        for probe in row.probe
    ]
    chosen = {next((each for each in row.expected if each.selects(cell)), None) for cell in cells}
    assert chosen == set(row.expected)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_with_another_site_says_why(name):
    row = ROWS[name]
    assert row.note or not any(each.seen_at for each in row.expected)


@pytest.mark.parametrize("name", sorted(FAULTS | OURS))
def test_a_fault_is_never_expected_to_go_unseen(name):
    unseen = {"unchanged", "fixed", "appeared", "unmeasured"}
    expected = [each for each in ROWS[name].expected if not unseen.intersection(each.verdict)]
    # What broke has no site: it does not load, or is a config that came back otherwise.
    assert any(each.site or each.verdict == ("broke",) for each in expected)


def test_what_is_as_expected_is_no_miss():
    assert misses_of(CELL, ROWS["TF-01"].expected) == []


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ("verdict", "unchanged"),
        ("attribution", "port"),
        ("nature", "rounding"),
        ("site", "blocks.1.attn.attn_scores"),
    ],
)
def test_each_difference_from_what_is_expected_is_a_miss_that_names_it(changed, value):
    name = {"site": "first_site"}.get(changed, changed)
    found = misses_of(dataclasses.replace(CELL, **{changed: value}), ROWS["TF-01"].expected)
    assert [f"{name}={value}, but should be" in each for each in found] == [True]


def test_another_site_will_do_only_where_nothing_is_to_be_seen_at_the_expected_one():
    expected = Expected(
        verdict=("reference_moved",), site="blocks.0.attn.attn_scores", seen_at="blocks.0.attn.z"
    )
    later = dataclasses.replace(CELL, site="blocks.0.attn.z")
    lacking = dataclasses.replace(later, changed=frozenset({"blocks.0.attn.z"}))
    assert misses_of(later, [expected])
    assert not misses_of(lacking, [expected])
    assert misses_of(dataclasses.replace(lacking, site="blocks.1.attn.z"), [expected])


@pytest.mark.parametrize(("shift", "missed"), [(0.5, False), (0.05, True), (None, True)])
def test_a_relation_that_took_nothing_out_is_a_miss(shift, missed):
    cell = dataclasses.replace(CELL, verdict="pass", shift=shift)
    assert bool(misses_of(cell, [Expected(verdict=("pass",), shift_above=0.1)])) == missed


def test_a_cell_of_which_nothing_is_expected_is_a_miss():
    assert misses_of(CELL, [Expected(verdict=("reference_moved",), mode=("bridge",))])


def test_silence_is_a_miss():
    assert outcome("TF-01").misses
    assert outcome("TF-01", failure="no index").misses
    assert not outcome("TF-01", CELL).misses


def test_sums_count_faults_found_and_false_alarms_apart():
    outcomes = [
        outcome("TF-01", CELL),
        outcome("TF-05", CLEAN),
        outcome("TF-42", CLEAN),
        outcome("TF-36", CELL),
    ]
    score = score_of(outcomes, whole=True)
    assert (score.faults, score.faults_found) == (2, 1)
    assert (score.others, score.false_alarms) == (2, 1)
    assert score.misses == 2
    assert str(score).startswith("recall 1 of 2 faults; false alarms 1 of 2")


@pytest.mark.parametrize(
    ("missed", "alarms", "whole", "enough"),
    [
        (0, 0, True, True),
        (1, 0, True, True),
        (2, 0, True, False),
        (1, 1, True, False),
        (1, 0, False, False),
        (0, 0, False, True),
    ],
)
def test_one_miss_is_allowed_of_the_whole_table_and_a_false_alarm_never(
    missed, alarms, whole, enough
):
    score = dataclasses.replace(
        score_of([], whole=whole), faults=11, others=3, misses=missed, false_alarms=alarms
    )
    assert score.good_enough == enough


def test_a_miss_of_no_fault_is_no_false_alarm_unless_it_is_called_worse():
    unmeasured = dataclasses.replace(CLEAN, verdict="unmeasured")
    assert outcome("TF-36", unmeasured).misses
    assert not outcome("TF-36", unmeasured).false_alarm


def test_the_words_of_a_row_say_what_it_came_to():
    assert "as expected" in line_of(outcome("TF-01", CELL))
    assert "verdict=unchanged, but should be reference_moved" in line_of(outcome("TF-01", CLEAN))
    assert "FALSE ALARM" in line_of(outcome("TF-36", CELL))
    assert table_of([outcome(name) for name in ROWS]).row_count == len(ROWS)


@pytest.mark.parametrize("name", ["TF-01", "TB-25"])
def test_a_row_of_which_nothing_was_measured_is_a_miss_that_says_so(name, tmp_path):
    found = judge(ROWS[name], tmp_path)
    assert found.misses[0].startswith("not asked: ")
    assert str(tmp_path) in found.misses[0]


def test_the_table_of_a_page_is_put_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- table end -->\nafter\n")
    command.put_between_marks(page, "new \n")
    assert page.read_text() == ("before\n<!-- table -->\n\n    new\n\n<!-- table end -->\nafter\n")
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no"):
        command.put_between_marks(page, "new")
