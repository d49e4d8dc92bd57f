import pytest

from harness.case import LOADING_MODES
from harness.judge.explain import because, explain, in_order, localised, senses

SITES = ("embed", "blocks.0.ln1.out", "blocks.0.attn.q", "blocks.0.attn.v", "logits")
PROCESSED = {
    "embed": ("shift", "center_writing_weights"),
    "blocks.0.ln1.out": ("affine", "fold_ln"),
    "blocks.0.attn.v": ("offset", "fold_value_biases"),
    "logits": ("shift", "center_unembed"),
}


def cell(mode="bridge_compat", verdict="pass", *, dtype="float32", **values):
    axes = {"family": "gpt2", "variant": "default", "checkpoint": "synthetic", "device": "cpu"}
    known = {"loading_mode": mode, "dtype": dtype, "verdict": verdict, "probe": None}
    named = {"cell_id": f"gpt2-default.{mode}.{dtype}", "run_id": "a-run"}
    nothing = dict.fromkeys(("first_site", "first_prompt_id", "tightest_relation", "reason"))
    return {**axes, **known, **named, **nothing, "missing_sites": "", **values}


def delta(site, prompt_id="p1", **values):
    measured = {"max_abs": 1e-7, "raw_max_abs": 1e-7, "shift_abs": 0.0, "n_compared": 9}
    logits = {"kl_nats": 1e-13, "top1_agreement": 1.0} if site == "logits" else {}
    labels = {"relation": "equal", "agrees_as": None, "check": None, "verdict": "pass"}
    nothing = {"kl_nats": None, "top1_agreement": None}
    return {
        "site": site,
        "prompt_id": prompt_id,
        **measured,
        **labels,
        **nothing,
        **logits,
        **values,
    }


def processed(site, **values):
    relation, _ = PROCESSED.get(site, ("equal", ""))
    taken = {"raw_max_abs": 0.5, "shift_abs": 0.5} if relation != "equal" else {}
    return delta(site, **{"relation": relation, **taken, **values})


def forced(site, **values):
    """Give the row of a site that processing changes, compared as it is."""
    if site not in PROCESSED:
        return delta(site, **values)
    far = {"raw_max_abs": 0.5, "max_abs": 0.5, "shift_abs": 0.5, "verdict": "fail"}
    return delta(site, **{**far, "agrees_as": PROCESSED[site][0], **values})


def failed(mode="bridge_compat", site="blocks.0.attn.q", **values):
    return cell(mode, "fail", **{"first_site": site, "first_prompt_id": "p1", **values})


def reasons(found):
    return {site: sense.because for sense in found.by_reason for site in sense.sites}


def explained(row, deltas=(), **context):
    return explain(row, run="latest", deltas=deltas, **context)


def test_each_site_that_is_not_equal_has_the_flag_that_makes_it_so():
    found = explained(cell(), [processed(site) for site in SITES])
    assert reasons(found) == {site: flag for site, (_, flag) in PROCESSED.items()}
    assert (found.equal, found.failing, found.first) == (1, (), None)


def test_sizes_are_told_before_and_after_and_are_the_largest_over_the_prompts():
    rows = [processed("logits"), processed("logits", prompt_id="p2", raw_max_abs=2.0, max_abs=1e-5)]
    (sense,) = explained(cell(), rows).by_reason
    assert (sense.before, sense.taken_out, sense.after) == (2.0, 0.5, 1e-5)


def test_logits_come_first_and_then_what_comes_first_in_forward_order():
    found = explained(cell(), [processed(site) for site in SITES])
    firsts = [sense.sites[0] for sense in found.by_reason]
    assert firsts == ["logits", "embed", "blocks.0.ln1.out", "blocks.0.attn.v"]


def test_a_cell_that_fails_for_the_forced_relation_alone_is_harmless():
    row = failed(site="embed")
    found = explained(row, [forced(site) for site in SITES], forced="equal")
    assert found.is_harmless
    assert reasons(found) == {site: flag for site, (_, flag) in PROCESSED.items()}
    assert {sense.after for sense in found.by_reason} == {None}
    assert (found.first["site"], found.earlier, found.equal) == ("embed", 0, 1)
    assert (found.kl_nats, found.top1_agreement) == (1e-13, 1.0)


def test_a_fault_behind_what_was_forced_is_what_is_told():
    rows = [forced(site) for site in SITES]
    rows[2] = delta("blocks.0.attn.q", verdict="fail", max_abs=0.25)
    found = explained(failed(site="embed"), rows, forced="equal")
    assert not found.is_harmless
    assert found.first["site"] == "blocks.0.attn.q"
    assert (found.failing, found.earlier_failing) == (("blocks.0.attn.q",), ())


def test_a_site_that_fails_by_its_mode_on_one_prompt_is_not_excused_by_another():
    rows = [forced("logits"), forced("logits", prompt_id="p2", agrees_as=None)]
    found = explained(failed(site="logits"), rows, forced="equal")
    assert (found.by_reason, found.failing, found.is_harmless) == ((), ("logits",), False)


def test_where_every_site_is_equal_there_is_no_reason():
    found = explained(cell("bridge"), [delta(site) for site in SITES], forced="equal")
    assert (found.by_reason, found.equal, found.is_harmless) == ((), 5, False)


def test_earlier_sites_are_counted_and_those_that_differ_by_themselves_are_named():
    rows = [delta(site) for site in SITES]
    rows[1] = delta(SITES[1], verdict="fail")
    rows[3] = delta(SITES[3], verdict="fail")
    found = explained(failed(site=SITES[3]), rows)
    assert (found.earlier, found.earlier_failing) == (3, (SITES[1],))
    assert found.failing == (SITES[1], SITES[3])


def test_the_row_is_that_of_the_smallest_prompt_and_the_prompt_is_given():
    rows = [delta(SITES[2], "p2", verdict="fail"), delta(SITES[2], verdict="fail")]
    prompts = [{"prompt_id": "p2"}, {"prompt_id": "p1"}]
    found = explained(failed(), rows, prompts=prompts)
    assert (found.first["prompt_id"], found.prompt) == ("p1", {"prompt_id": "p1"})


def test_a_cell_without_rows_is_explained_too():
    found = explained(cell(verdict="unavailable", reason="the port refuses"))
    assert (found.first, found.by_reason, found.prompt, found.kl_nats) == (None, (), None, None)


def test_forward_order_is_that_of_the_fullest_prompt():
    rows = [
        delta("logits"),
        *(delta(site, "p2") for site in ("embed", "blocks.0.attn.q", "logits")),
    ]
    assert in_order(rows) == ["embed", "blocks.0.attn.q", "logits"]


@pytest.mark.parametrize(
    ("site", "relation", "flag"),
    [
        ("logits", "shift", "center_unembed"),
        ("blocks.3.resid_post", "shift", "center_writing_weights"),
        ("blocks.3.attn.attn_scores", "shift", "softmax"),
        ("ln_final.out", "affine", "fold_ln"),
        ("blocks.3.attn.z", "offset", "fold_value_biases"),
    ],
)
def test_a_relation_at_a_site_has_one_reason(site, relation, flag):
    assert because(site, relation, "bridge_compat") == flag


@pytest.mark.parametrize("mode", sorted(LOADING_MODES))
def test_a_reason_is_never_a_flag_that_the_mode_does_not_have(mode):
    flags = LOADING_MODES[mode].processing.flags()
    rows = [processed(site) for site in SITES if flags.get(PROCESSED.get(site, ("", ""))[1])]
    found = senses(rows, sites=SITES, failing=frozenset(), mode=mode)
    assert all(flags[sense.because] for sense in found)


def test_what_all_modes_alike_have_and_no_clean_one_is_what_a_difference_comes_with():
    clean = ("bridge", "bridge_compat_no_processing", "bridge_center_unembed", "hf_sdpa")
    row = failed()
    cells = [row, failed("bridge_fold_ln"), *map(cell, clean)]
    found = localised(row, cells)
    assert found.brought_by == ("fold_ln",)
    assert (found.clean, found.alike) == (clean, ("bridge_compat", "bridge_fold_ln"))


def test_what_differs_in_compatibility_mode_without_a_flag_comes_with_that_mode():
    row = failed("bridge_compat_no_processing")
    assert localised(row, [row, cell("bridge")]).brought_by == ("compatibility mode",)


def test_what_differs_unprocessed_as_well_is_not_the_processing():
    row = failed()
    found = localised(row, [row, failed("bridge"), cell("hf_sdpa")])
    assert (found.brought_by, found.needs_no_processing) == ((), True)


def test_another_port_says_nothing_of_the_processing():
    row = failed()
    found = localised(row, [row, cell("hf_sdpa"), failed("hf_eager")])
    assert (found.brought_by, found.needs_no_processing) == ((), False)


@pytest.mark.parametrize(
    "other",
    [
        {"variant": "unscaled"},
        {"checkpoint": "synthetic:gpt2-small"},
        {"dtype": "bfloat16"},
        {"device": "cuda"},
        {"probe": "padding"},
    ],
)
def test_other_cases_dtypes_devices_and_probes_say_nothing_of_a_cell(other):
    row = failed()
    assert localised(row, [row, cell("bridge", **other)]).clean == ()


def test_what_differs_first_elsewhere_is_not_alike():
    row = failed()
    assert localised(row, [row, failed("bridge", site="logits")]).alike == ("bridge_compat",)


def test_the_exact_twin_says_whether_it_is_meaning():
    row = failed()
    assert localised(row, [row, failed(dtype="exact")]).twin == "fail"
    assert localised(row, [row, cell(dtype="exact")]).twin == "pass"
    assert localised(row, [row]).twin == ""


def test_a_mode_that_is_not_known_any_more_is_explained_without_it():
    row = failed("bridge_of_old")
    found = explained(row, [delta(SITES[2], verdict="fail")], cells=[row, cell("bridge")])
    assert (found.localised.brought_by, found.localised.clean) == ((), ("bridge",))


@pytest.mark.parametrize(
    ("row", "relation", "last"),
    [
        (cell("bridge"), "processing", "--mode bridge --dtype float32 --probe none"),
        (cell(device="cuda"), "processing", "--dtype float32 --device cuda --probe none"),
        (cell(probe="padding"), "processing", "--dtype float32 --probe padding"),
        (failed(), "equal", "--dtype float32 --probe none"),
    ],
)
def test_the_last_command_measures_the_cell_anew(row, relation, last):
    command, _ = explained(row, forced=relation).commands[-1]
    start = "harness run --family gpt2 --variant default --checkpoint synthetic --mode "
    assert command.startswith(start)
    assert command.endswith(last)


def test_a_probe_of_a_forced_run_is_asked_again_in_the_same_way():
    row = failed("hf_sdpa", site="ln_final.out", probe="hidden_to_logits")
    found = explained(row, [delta("ln_final.out", verdict="fail", check="a check")], forced="equal")
    assert (found.is_forced, found.is_harmless) == (True, False)
    assert found.commands[1][0].endswith("--probe hidden_to_logits --relation equal")


def test_commands_say_how_the_run_is_called_and_how_to_see_it_forced_or_not():
    passing = [command for command, _ in explained(cell(), [processed("logits")]).commands]
    assert passing[0] == "harness replay latest gpt2-default.bridge_compat.float32"
    assert passing[-1].endswith("--probe none --relation equal")
    of_forced = explained(failed(site="logits"), [forced("logits")], forced="equal").commands
    assert [command.endswith("--relation equal") for command, _ in of_forced] == [
        False,
        True,
        False,
    ]
