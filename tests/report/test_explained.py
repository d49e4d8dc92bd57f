import pytest

from harness.judge.explain import Explanation, Localised, Sense
from harness.report.explained import COMMAND, explained

SITE = "blocks.1.mlp_out"
NOTHING = dict.fromkeys(
    ("reason", "limitation", "first_site", "tightest_relation", "failing_checks", "probe")
)
AXES = {"loading_mode": "bridge_compat", "dtype": "float32", "device": "cpu"}
COUNTS = {"sites_compared": 49, "n_prompts": 9, "sites_passed_through": 0}
SHIFT = Sense(
    relation="shift",
    because="center_unembed",
    sites=("logits",),
    before=1.1,
    taken_out=1.1,
    after=4.6e-6,
)
MEAN = Sense(
    relation="shift",
    because="center_writing_weights",
    sites=("embed", "blocks.0.resid_mid", "blocks.1.resid_mid"),
    before=0.8,
    taken_out=0.8,
    after=1e-6,
)


def cell(verdict="pass", **values):
    row = {**NOTHING, **AXES, **COUNTS, "verdict": verdict, **values}
    probe = f".{row['probe']}" if row["probe"] else ""
    return {**row, "cell_id": f"gpt2-default.{row['loading_mode']}.{row['dtype']}{probe}"}


def failing(**values):
    return cell("fail", first_site=SITE, tightest_relation="no simple relation holds", **values)


def row(**values):
    measured = {"site": SITE, "check": None, "probe": None, "dtype": "float32", "relation": "equal"}
    sizes = {"rel_l2": 0.25, "error_ratio": 212.4, "bound": 4.0, "max_abs": 0.5}
    return {**measured, **sizes, "worst_index": "0,1,3", **values}


def told(row_of_cell, *, forced="processing", **values):
    commands = (("harness replay latest x", "again"),)
    found = Explanation(run="latest", cell=row_of_cell, forced=forced, commands=commands, **values)
    return explained(found)


def text(*arguments, **values):
    return "\n".join(told(*arguments, **values))


def forced(**values):
    sense = Sense(
        relation="shift",
        because="center_unembed",
        sites=("logits",),
        before=1.1,
        taken_out=1.1,
        after=None,
    )
    first = row(site="logits")
    known = {"forced": "equal", "by_reason": (sense,), "first": first, "failing": ()}
    return {**known, "kl_nats": 3e-13, "top1_agreement": 1.0, "equal": 48, "earlier": 48, **values}


def test_logits_that_were_forced_to_be_equal_are_shifted_because_of_center_unembed():
    said = text(failing(), **forced())
    assert said.startswith("gpt2-default · bridge_compat · float32: fail, every site forced to be")
    assert "1 of 49 sites, each because of what bridge_compat does to the weights" in said
    assert (
        "logits: the reference's, shifted by a constant per position (1.1 at most), because of "
        "`center_unembed`: log-softmax, probabilities and the top token do not change "
        "(measured: KL 3e-13 nats, top token always the same)."
    ) in said
    assert "Since where: logits; all 48 sites before it agree." in said
    assert "Nothing is wrong with the port" in said


def test_what_was_measured_of_the_top_token_is_told_though_it_should_not_change():
    said = text(failing(), **forced(top1_agreement=0.875))
    assert "top token the same for a share of 0.8750 at worst" in said


def test_the_modes_that_are_clean_leave_the_processing_alone():
    said = text(failing(), **forced(localised=Localised(clean=("bridge", "hf_sdpa"))))
    assert "Which mode is clean: bridge and hf_sdpa, in the same run. So it is the proc" in said


def test_a_fault_is_not_excused_by_what_was_forced():
    said = text(failing(), **forced(failing=(SITE,), first=row(), earlier=20))
    assert "Nothing is wrong" not in said
    assert f"What differs: the port from the reference, first at {SITE}: 212 times" in said
    assert "Apart from that shows what is taken out and is no fault: `center_unembed`" in said


def test_a_cell_that_passes_says_in_which_sense_each_site_agrees():
    said = text(cell(), by_reason=(SHIFT, MEAN), equal=18, kl_nats=3e-13, top1_agreement=1.0)
    assert "Nothing differs: port and reference agree at all 49 sites, on 9 prompts." in said
    assert "logits agree up to a constant per position (largest |Δ| 1.1 before, 4.6e-06 af" in said
    assert "embed, resid_mid (3 sites) agree up to their mean at each position" in said
    assert "because of `center_writing_weights`" in said


def test_where_all_is_equal_nothing_is_said_of_shifts():
    said = text(cell(loading_mode="bridge"), equal=49, forced="equal")
    assert "agree at all 49 sites, on 9 prompts, as they are." in said
    for word in ("shift", "constant", "center_", "because", "Since"):
        assert word not in said


def test_what_the_port_did_not_compute_itself_is_no_evidence():
    said = text(cell(sites_passed_through=21))
    assert "At 21 of the sites the port runs the reference's own code: no evidence." in said


def test_other_bases_are_told():
    said = text(cell(), in_other_bases=True)
    assert "because of `refactor_factored_attn_matrices`" in said


def test_a_failure_says_what_since_where_in_which_sense_and_on_what():
    prompt = {"tokens": [[5, 6]], "origin": "shrunk"}
    known = {"first": row(), "failing": (SITE, "ln_final.out", "logits"), "earlier": 20}
    lines = told(failing(), prompt=prompt, **known)
    assert lines[1] == (
        f"What differs: the port from the reference, first at {SITE}: 212 times the reference's "
        "own error, allowed 4, largest |Δ| 0.5 at [0,1,3], and at 2 later sites, logits too."
    )
    assert lines[2] == f"Since where: {SITE}; all 20 sites before it agree."
    assert lines[3] == "In which sense: compared as it is; no simple relation holds."
    assert lines[-3:] == [
        "Smallest prompt: [5, 6] (1 × 2 tokens, shrunk)",
        "See it again:",
        f"{COMMAND}harness replay latest x  # again",
    ]


def test_in_exact_mode_the_distance_is_told():
    said = text(failing(dtype="exact"), first=row(dtype="exact", bound=1e-11), failing=(SITE,))
    assert "rel_l2 0.25, allowed 1e-11, largest |Δ| 0.5 at [0,1,3], and nowhere else." in said
    assert f"Since where: {SITE}, the first site of all." in said


def test_the_relation_that_a_site_was_compared_in_is_told_with_its_reason():
    said = text(failing(), first=row(relation="shift"), failing=(SITE,))
    assert (
        "In which sense: compared up to their mean at each position, because of "
        "`center_writing_weights`; no simple relation holds."
    ) in said


def test_earlier_sites_that_differ_by_themselves_are_named():
    known = {"earlier": 9, "earlier_failing": ("blocks.0.attn.pattern",)}
    said = text(failing(), first=row(), failing=("blocks.0.attn.pattern", SITE), **known)
    assert "all 9 sites before it agree but attn.pattern, for a reason of their own." in said
    assert "and nowhere else" in said


@pytest.mark.parametrize(
    ("twin", "said"),
    [("fail", "Meaning, not rounding"), ("pass", "Rounding, not meaning"), ("", None)],
)
def test_the_exact_twin_tells_meaning_from_rounding(twin, said):
    found = text(failing(), first=row(), failing=(SITE,), localised=Localised(twin=twin))
    assert ("rounding" in found.lower()) == (said is not None)
    assert said is None or said in found


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (
            Localised(clean=("bridge",), brought_by=("fold_ln",)),
            "Which mode is clean: bridge, in the same run. So it comes with `fold_ln`.",
        ),
        (
            Localised(alike=("bridge", "bridge_compat"), needs_no_processing=True),
            "In the same run as here: bridge. So it is not the processing.",
        ),
        (
            Localised(clean=("hf_sdpa",), alike=("bridge", "bridge_compat")),
            "Which mode is clean: hf_sdpa, in the same run. Also as here: bridge.",
        ),
    ],
)
def test_other_modes_say_what_a_difference_comes_with(where, said):
    assert said in told(failing(), first=row(), failing=(SITE,), localised=where)


def test_a_known_difference_says_why_where_it_is_written_down_and_that_it_ends():
    known = cell(
        "known", first_site=SITE, tightest_relation="equal", reason="a hook", limitation="a.md b.md"
    )
    said = text(known, first=row(), failing=(SITE,))
    assert "Why it is known, not a failure: a hook." in said
    assert "Written down in a.md, b.md; the limitation on the case says until when" in said


@pytest.mark.parametrize("probe", [None, "causality"])
def test_a_cell_that_raised_as_is_known_does_not_say_that_it_agrees(probe):
    said = text(cell("known", reason="raises", sites_compared=0, n_prompts=0, probe=probe))
    assert "it raised, so that nothing was compared." in said
    assert "Why it is known, not a failure: raises." in said
    assert "agree" not in said
    assert "keeps" not in said


def test_a_known_cell_whose_sites_differ_by_themselves_does_not_say_that_all_agree():
    said = text(cell("known", reason="a hook"), failing=("blocks.0.attn.attn_scores",), equal=48)
    assert "agree at all sites but attn.attn_scores" in said
    assert "all 49" not in said


def test_a_stale_limitation_is_to_be_taken_off():
    said = text(cell("stale", reason="agrees, but a limitation says it does not: x"))
    assert "take the limitation off the case" in said


def test_a_cell_that_raised_or_was_not_measured_gives_no_verdict_on_the_port():
    raised = text(cell("error", reason="ZeroDivisionError('by zero')"))
    assert "it raised, so that it gives no verdict: ZeroDivisionError('by zero')" in raised
    where = Localised(clean=("hf_sdpa",))
    refused = text(cell("unavailable", reason="the port refuses"), localised=where)
    assert "not measured, which is no verdict on the port: the port refuses" in refused
    assert "In the same run it agrees in hf_sdpa." in refused
    for said in (raised, refused):
        assert "What to do: " in said
        assert "Nothing differs" not in said


CHECK = "hidden_states[-1] as the reference gives it"
SENTENCE = "the reference's hidden_states[-1] is before its final norm, the port's is after it"


def probed(verdict="fail", **values):
    probe = {"probe": "hidden_to_logits", "loading_mode": "hf_sdpa"}
    checks = {"failing_checks": CHECK, "tightest_relation": SENTENCE, "first_site": "ln_final.out"}
    return cell(verdict, **{**probe, **checks, **values})


def of_check(**values):
    return row(site="ln_final.out", check=CHECK, probe="hidden_to_logits", **values)


def test_a_probe_that_is_not_kept_tells_its_check_and_its_own_explanation():
    lines = told(probed(), first=of_check(dtype="exact", bound=1e-11), failing=("ln_final.out",))
    assert lines[0] == "gpt2-default · hf_sdpa · float32 · hidden_to_logits: fail"
    assert lines[1].startswith(
        f"What is not kept: hidden_to_logits, in its check “{CHECK}”, first at ln_final.out: rel_l2"
    )
    assert lines[2] == f"Why: {SENTENCE}."
    assert lines[3] == "What is owed, and why: harness/measure/probes/hidden_to_logits.py."


def test_a_probe_of_a_forced_run_says_so():
    line = told(probed(), forced="equal", first=of_check(), failing=("ln_final.out",))[0]
    assert line.endswith("hidden_to_logits: fail, port and reference forced to be equal")


def test_a_probe_without_an_explanation_of_its_own_says_none():
    said = text(probed(tightest_relation=f"{CHECK}: owed to be the same"), first=of_check())
    assert "Why:" not in said
    assert "212 times what rounding alone does there" in said


def test_other_checks_that_fail_are_named():
    said = text(probed(failing_checks=f"batch; {CHECK}"), first=of_check())
    assert "These checks fail too: batch." in said


def test_a_probe_that_is_kept_names_its_checks():
    said = text(probed("pass", failing_checks=None), checks=("batch", CHECK), first=None)
    assert f"keeps what hidden_to_logits asks, on 9 prompts: batch; {CHECK}." in said


def test_an_explanation_is_short():
    prompt = {"tokens": [[5, 6]], "origin": "shrunk"}
    where = Localised(clean=("bridge",), alike=("bridge_compat", "bridge_fold_ln"), twin="known")
    row_of_cell = failing(reason="x", limitation="a.md") | {"verdict": "known"}
    rest = {"failing": (SITE, "logits"), "prompt": prompt, "localised": where}
    assert len(told(row_of_cell, first=row(), by_reason=(MEAN,), **rest)) <= 15
