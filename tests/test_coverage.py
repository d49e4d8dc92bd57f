import pytest

from harness.coverage import Field, faults_in, share


def found(effect="logits", **changes):
    return Field(family="llama", name="rms_norm_eps", effect=effect, **changes)


EXERCISED = found(exercised_by="far")
OPEN = found(shown_by="default: 1e-05 → 2e-05")
REASONED = found(reason="the class refuses it")


def test_the_share_counts_only_fields_that_change_numbers():
    assert share([EXERCISED, OPEN, found("none"), found("undecided")]) == 0.5


def test_a_field_with_a_reason_is_still_not_exercised():
    assert share([EXERCISED, REASONED]) == 0.5


def test_nothing_that_matters_is_no_coverage():
    assert share([]) == 0.0
    assert share([found("none")]) == 0.0


def test_a_field_that_no_variant_exercises_is_named_with_what_showed_it():
    (line,) = faults_in([OPEN], {})
    assert line.startswith("llama: rms_norm_eps changes other logits in exact mode (default: 1e-05")


def test_a_field_that_could_not_be_asked_is_named():
    (line,) = faults_in([found("undecided")], {})
    assert "llama: rms_norm_eps: every other value raises" in line


@pytest.mark.parametrize("field", [EXERCISED, found("none"), REASONED])
def test_what_is_exercised_idle_or_has_its_reason_is_silent(field):
    reasons = {"rms_norm_eps": field.reason} if field.reason else {}
    assert faults_in([field], {"llama": reasons}) == []


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (EXERCISED, "variant far exercises it"),
        (found("none"), "it changes nothing"),
        (Field(family="llama", name="other", effect="none"), "there is no such field"),
    ],
)
def test_a_stale_reason_is_loud(field, words):
    (line,) = faults_in([field], {"llama": {"rms_norm_eps": "an old reason"}})
    assert line.startswith("llama: rms_norm_eps: stale reason")
    assert words in line


def test_reasons_of_families_that_were_not_asked_are_left_alone():
    assert faults_in([EXERCISED], {"gpt2": {"n_inner": "an old reason"}}) == []
