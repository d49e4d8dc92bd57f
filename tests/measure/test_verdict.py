import re

import pytest

from harness.case import Case, Cell, Limitation
from harness.errors import CaptureError
from harness.measure.verdict import differs_as_known, differs_by_itself, judged, judged_error

SITE, LATER = "blocks.0.attn.q", "blocks.1.mlp_out"


def limitation(outcome, *sites, words="", **axes):
    return Limitation(
        outcome=outcome,
        reason=f"it {outcome}",
        link="docs/none.md",
        until="pytest>9999",
        sites=sites,
        words=words,
        **axes,
    )


DIFFERS, LOCAL, SILENT = (limitation(outcome, SITE) for outcome in ("differs", "local", "silent"))
RAISES = limitation("raises", words="b_Q not found")


def cell_of(*limitations):
    case = Case(family="gpt2", limitations=limitations)
    return Cell(case=case, loading_mode="bridge", dtype="exact")


def verdict_on(*limitations, failing=(), first=None, woken=()):
    return judged(cell_of(*limitations), failing=failing, first=first, woken=woken)


@pytest.mark.parametrize(
    ("limitations", "failing", "first", "verdict", "reason"),
    [
        ((), (), None, "pass", None),
        ((), (SITE,), SITE, "fail", f"first at {SITE}"),
        ((DIFFERS,), (SITE, LATER), SITE, "known", "it differs"),
        ((DIFFERS,), (LATER,), LATER, "fail", f"first at {LATER}, though .* say: differs {SITE}"),
        ((DIFFERS,), (), None, "stale", "agrees, but .*: it differs"),
        ((LOCAL,), (SITE,), None, "known", "it local"),
        ((LOCAL,), (SITE, LATER), LATER, "fail", f"first at {LATER}"),
        ((LOCAL,), (), None, "stale", "agrees, but .*: it local"),
        ((SILENT,), (), None, "known", "it silent"),
        ((SILENT,), (LATER,), LATER, "fail", f"first at {LATER}"),
        ((RAISES,), (), None, "stale", "agrees, but .*: it raises"),
        ((RAISES,), (SITE,), SITE, "fail", "though its limitations say: raises"),
        ((SILENT, DIFFERS), (), None, "stale", "it differs"),
        ((LOCAL, SILENT), (SITE,), None, "known", "it local; it silent"),
    ],
)
def test_a_cell_is_judged_by_what_fails_and_what_its_limitations_say(
    limitations, failing, first, verdict, reason
):
    found, told = verdict_on(*limitations, failing=failing, first=first)
    assert found == verdict
    assert told is None if reason is None else re.search(reason, told)


def test_a_limitation_that_says_a_hook_never_fires_is_stale_once_it_does():
    found, told = verdict_on(SILENT, woken=(SITE,), failing=(SITE,), first=SITE)
    assert found == "stale"
    assert SITE in told


def test_a_limitation_of_another_mode_says_nothing():
    other = limitation("differs", SITE, loading_modes=("hf_sdpa",))
    assert verdict_on(other, failing=(SITE,), first=SITE)[0] == "fail"
    assert verdict_on(other) == ("pass", None)


@pytest.mark.parametrize(
    ("limitations", "error", "verdict"),
    [
        ((RAISES,), ValueError("b_Q not found at key 3"), "known"),
        ((RAISES,), ValueError("something else"), "error"),
        ((DIFFERS, LOCAL, SILENT), ValueError("b_Q not found at key 3"), "error"),
        ((), ValueError("b_Q not found at key 3"), "error"),
    ],
)
def test_an_error_is_known_only_by_its_words(limitations, error, verdict):
    found, told = judged_error(cell_of(*limitations), error)
    assert found == verdict
    assert str(error) in told


def test_an_error_of_the_harness_speaks_for_itself_and_another_says_its_type():
    assert judged_error(cell_of(), CaptureError("lost a site")) == ("error", "lost a site")
    assert judged_error(cell_of(), KeyError("lost")) == ("error", "KeyError('lost')")


def test_each_outcome_explains_its_own_kind_of_difference():
    cell = cell_of(DIFFERS, LOCAL, SILENT)
    assert differs_as_known(cell, SITE) is DIFFERS
    assert differs_as_known(cell, LATER) is None
    assert differs_as_known(cell_of(LOCAL), SITE) is None
    assert [differs_by_itself(cell, site) for site in (SITE, LATER)] == [True, False]
    assert not differs_by_itself(cell_of(DIFFERS), SITE)
