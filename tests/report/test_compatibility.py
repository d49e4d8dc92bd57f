"""The page of a breadth run: each line that could lie, with the fault planted and without it."""

import math

import pandas as pd
import pytest

from harness.report.compatibility import Page, markdown
from harness.report.standing import Architecture

ARCHITECTURES = {
    ("llama", "default"): Architecture(kind="causal", class_name="LlamaForCausalLM"),
    ("bert", "default"): Architecture(kind="causal", class_name="BertLMHeadModel"),
    ("bert", "masked"): Architecture(kind="masked", class_name="BertForMaskedLM"),
    ("t5", "default"): Architecture(kind="seq2seq", class_name="T5ForConditionalGeneration"),
}
DESCRIBED = {
    "packages": {"torch": "2.13.0", "transformers": "5.23.0", "transformer-lens": "4.3.0"},
    "started": "2026-11-25T18:34:14+00:00",
}
FINDING = "docs/findings/it-differs.md"
RED = ("fail", "error", "stale")


def row(verdict="pass", mode="bridge", dtype="exact", probe=None, name="llama", **values):
    """Give the row of a cell: its family and variant are `name`, by a dot."""
    family, _, variant = name.partition(".")
    ran = verdict in {"pass", "fail", "known", "stale"}
    variant = variant or "default"
    parts = (f"{family}-{variant}@shrunk", mode, dtype, *([probe] if probe else []))
    return {
        "cell_id": ".".join(parts),
        "family": family,
        "variant": variant,
        "loading_mode": mode,
        "dtype": dtype,
        "probe": probe,
        "verdict": verdict,
        "reason": None if verdict == "pass" else f"because it is {verdict}",
        "first_site": "blocks.1.mlp_out" if verdict == "fail" else None,
        "limitation": FINDING if verdict == "known" else None,
        "sites_compared": 30 if ran else 0,
        "sites_passed_through": 10 if ran else 0,
        "sites_missing": 0,
        "worst_rel_l2": 3e-16 if ran else None,
        "worst_error_ratio": 1.25 if ran else None,
        "checkpoint_digest": "d1",
        **values,
    }


def probe(verdict="pass", asked="padding", **values):
    return row(verdict, mode="hf_eager", probe=asked, **values)


def page_of(*rows, narrowed="", place="docs", described=DESCRIBED):
    page = Page(
        described=described,
        architectures=ARCHITECTURES,
        command="harness compatibility a-run",
        measured_by="harness run --profile breadth",
        place=place,
        narrowed=narrowed,
    )
    return markdown(page, pd.DataFrame(rows))


def test_the_worst_of_what_agrees_in_true_float64_is_told_per_mode():
    page = page_of(
        row(worst_rel_l2=3e-16),
        row(name="bert", worst_rel_l2=2e-15),
        row(dtype="bfloat16", worst_rel_l2=1e-2),
        row("known", mode="hf_sdpa", worst_rel_l2=1.0),
    )
    (told,) = (line for line in page.splitlines() if "true float64:" in line)
    assert told.startswith("- bridge, true float64: of 2 that agree the worst rel_l2 is 2e-15 (ber")


def entries(page, name="llama", kind="causal"):
    """Give what stands beside an architecture in the table, by the column's head."""
    lines = page.splitlines()
    head = next(line for line in lines if line.startswith("| type |"))
    line = next(line for line in lines if line.startswith(f"| {name} | {kind} |"))
    words = ([part.strip() for part in each.strip("|").split(" | ")] for each in (head, line))
    return dict(zip(*words, strict=True))


def count(page, name):
    """Give a line of the counts: causal, seq2seq, masked, all."""
    line = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
    return [int(part) for part in line.strip("|").split("|")[1:]]


def section(page, title):
    return page.split(f"{title}")[1].split("\n## ")[0].split("\n### ")[0]


def test_the_heading_names_versions_date_and_both_commands():
    page = page_of(row())
    assert "**torch 2.13.0, transformers 5.23.0, transformer_lens 4.3.0.**" in page
    assert "The run is of 2026-11-25, measured by `harness run --profile breadth`" in page
    assert "Written by `harness compatibility a-run`; do not edit it." in page


def test_a_package_that_was_not_there_is_named_as_such():
    packages = {**DESCRIBED["packages"], "transformer-lens": None}
    page = page_of(row(), described={**DESCRIBED, "packages": packages})
    assert "transformer_lens (none)" in page


def test_a_part_of_the_profile_says_so_and_the_whole_does_not():
    page = page_of(row(), narrowed="family llama")
    assert "**This is a part only (family llama): 1 of 4 architectures.**" in page
    assert "part only" not in page_of(row())


def test_architectures_are_counted_by_kind_whether_they_were_asked_or_not():
    page = page_of(row(), row(name="bert.masked"))
    assert count(page, "architectures of transformers 5.23.0") == [2, 1, 1, 4]
    assert count(page, "asked") == [1, 0, 1, 2]


def test_a_passing_cell_has_its_worst_number_and_its_sites():
    page = page_of(row(worst_rel_l2=1.4e-15))
    assert entries(page)["bridge"] == "✓ exact (1.4e-15)<br>30 sites, 10 passed through"
    assert count(page, "bridge: ✓") == [1, 0, 0, 1]
    assert count(page, "bridge: red") == [0, 0, 0, 0]
    assert "## What differs\n\nNothing.\n" in page


def test_a_failing_cell_has_its_first_site_in_the_table_and_in_the_list():
    page = page_of(row("fail", reason="differs\nhere"))
    assert entries(page)["bridge"].startswith("✗ blocks.1.mlp_out exact<br>")
    line = "- `llama-default@shrunk.bridge.exact` ✗ at `blocks.1.mlp_out`: `differs here`"
    assert section(page, "### Red (1)").strip() == line


@pytest.mark.parametrize("verdict", RED)
def test_a_red_cell_is_counted_and_never_green(verdict):
    page = page_of(row(verdict))
    assert "✓" not in entries(page)["bridge"]
    assert [count(page, f"bridge{name}") for name in (" measured", ": red", ": ✓")] == [
        [1, 0, 0, 1],
        [1, 0, 0, 1],
        [0, 0, 0, 0],
    ]
    assert "### Red (1)" in page


@pytest.mark.parametrize("worst", [math.nan, math.inf, None])
def test_a_pass_whose_worst_number_is_none_is_red(worst):
    page = page_of(row(worst_rel_l2=worst))
    assert entries(page)["bridge"].startswith("not finite exact")
    assert count(page, "bridge: ✓") == [0, 0, 0, 0]
    assert count(page, "bridge: red") == [1, 0, 0, 1]
    assert "exact` not finite: passes, though its worst number is not finite" in page


def test_of_a_rounded_dtype_it_is_the_error_ratio_that_must_be_finite():
    broken = page_of(row(dtype="float32", worst_error_ratio=math.nan))
    assert entries(broken)["bridge"].startswith("not finite f32")
    whole = page_of(row(dtype="float32", worst_rel_l2=math.nan))
    assert entries(whole)["bridge"].startswith("✓ f32")


def test_a_known_cell_links_to_what_is_written_of_it_from_the_page():
    page = page_of(row("known", first_site="q"))
    assert entries(page)["bridge"].startswith("[known](findings/it-differs.md) exact<br>")
    assert count(page, "bridge: known") == [1, 0, 0, 1]
    assert count(page, "bridge: ✓") == [0, 0, 0, 0]
    line = "known at `q`: `because it is known` ([it-differs](findings/it-differs.md))"
    assert line in section(page, "### Known (1)")
    assert "### Red" not in page


def test_a_mode_that_is_known_in_one_dtype_and_passes_in_another_is_known():
    page = page_of(row(), row("known", dtype="float32"))
    assert entries(page)["bridge"].startswith("✓ exact (3e-16)<br>[known]")
    assert count(page, "bridge: known") == [1, 0, 0, 1]
    assert count(page, "bridge: ✓") == [0, 0, 0, 0]


def test_a_known_cell_without_a_page_is_named_and_one_with_two_links_to_both():
    assert entries(page_of(row("known", limitation=None)))["bridge"].startswith("known exact<br>")
    page = page_of(row("known", limitation=f"{FINDING} https://x.org/1"))
    two = "[known](findings/it-differs.md) [2](https://x.org/1) exact<br>"
    assert entries(page)["bridge"].startswith(two)


def test_a_red_cell_that_has_a_limitation_links_to_it():
    page = page_of(row("fail", limitation=FINDING))
    assert section(page, "### Red (1)").strip().endswith("([it-differs](findings/it-differs.md))")


def test_dtypes_of_one_outcome_stand_together_and_others_apart():
    rows = [row(dtype=dtype) for dtype in ("bfloat16", "float32", "exact")]
    assert entries(page_of(*rows))["bridge"].startswith("✓ exact (3e-16) f32 bf16<br>")
    page = page_of(*rows[1:], row("fail", dtype="bfloat16"))
    assert entries(page)["bridge"].startswith("✓ exact (3e-16) f32<br>✗ blocks.1.mlp_out bf16<br>")
    assert count(page, "bridge: ✓") == [0, 0, 0, 0]
    assert count(page, "bridge: red") == [1, 0, 0, 1]


def test_a_mode_that_one_dtype_cannot_be_measured_in_is_not_counted_as_green():
    page = page_of(row(), row("unavailable", dtype="float32"))
    assert entries(page)["bridge"].startswith("✓ exact (3e-16)<br>– f32<br>")
    assert count(page, "bridge: ✓") == [0, 0, 0, 0]
    assert count(page, "bridge: ✓ in part") == [1, 0, 0, 1]
    assert "- bridge in float32: `because it is unavailable` (1): llama" in page


def test_a_mode_whose_every_site_is_the_references_own_is_no_evidence():
    page = page_of(row(sites_passed_through=30))
    assert entries(page)["bridge"] == "(✓) exact (3e-16)<br>30 sites, 30 passed through"
    assert count(page, "bridge: ✓") == [0, 0, 0, 0]
    assert count(page, "bridge: (✓)") == [1, 0, 0, 1]
    assert "bridge: (✓)" not in page_of(row(sites_passed_through=29))


def test_of_several_dtypes_the_fewest_sites_and_the_most_missing_are_told():
    rows = [row(sites_compared=40, sites_missing=2), row(dtype="float32", sites_missing=5)]
    told = "30 sites, 10 passed through, 5 missing"
    assert entries(page_of(*rows))["bridge"].endswith(f"<br>{told}")
    raised = row("error", dtype="float32", sites_missing=9)
    assert entries(page_of(rows[0], raised))["bridge"].endswith(
        "<br>40 sites, 10 passed through, 2 missing"
    )


def test_a_refused_mode_is_not_measured_and_says_why():
    reason = "transformer-lens 4.3.0: LlamaForCausalLM is not supported"
    page = page_of(row("unavailable", reason=reason), row(mode="hf_sdpa"))
    assert entries(page)["bridge"] == "–"
    assert count(page, "bridge measured") == [0, 0, 0, 0]
    assert count(page, "hf_sdpa measured") == [1, 0, 0, 1]
    line = "- bridge: `transformer-lens 4.3.0: … is not supported` (1): llama"
    assert section(page, "### Loading modes").strip() == line
    assert "### Architectures" not in page


def test_nothing_that_was_left_out_is_said_too():
    assert "## Not measured\n\nNothing: all that was asked was measured.\n" in page_of(row())


def test_refusals_for_one_reason_stand_together():
    reasons = {"llama": "LlamaForCausalLM: no", "bert.masked": "BertForMaskedLM: no"}
    refused = [
        row("unavailable", name=name, mode=mode, reason=reason)
        for name, reason in reasons.items()
        for mode in ("bridge", "bridge_compat")
    ]
    page = page_of(*refused)
    lines = section(page, "### Loading modes").strip()
    assert lines == "- bridge, bridge_compat: `…: no` (2): bert (masked), llama"


def test_an_architecture_without_a_checkpoint_is_absent_with_its_reason():
    reason = "t5: no small config of it builds and runs"
    gone = {"name": "t5", "reason": reason, "checkpoint_digest": None}
    page = page_of(row("unavailable", **gone), probe("unavailable", **gone), row())
    assert entries(page, "t5", "seq2seq") == {
        "type": "t5",
        "kind": "seq2seq",
        "reference probes": "–",
        "bridge": "–",
    }
    line = "- `…: no small config of it builds and runs` (1): t5"
    assert section(page, "### Architectures").strip() == line
    assert "### Loading modes" not in page
    assert count(page, "references measured") == [1, 0, 0, 1]


def test_a_reference_is_measured_if_a_probe_alone_gave_numbers():
    page = page_of(row("unavailable"), probe())
    assert count(page, "references measured") == [1, 0, 0, 1]
    assert count(page, "bridge measured") == [0, 0, 0, 0]


def test_a_reference_that_only_raised_is_not_measured_and_is_told():
    page = page_of(probe("error", checkpoint_digest=None))
    assert count(page, "references measured") == [0, 0, 0, 0]
    assert count(page, "references' probes: red") == [1, 0, 0, 1]
    assert entries(page)["reference probes"] == "0/1<br>error padding"
    assert "### Red (1)" in page


def test_probes_are_counted_of_those_that_could_be_asked_and_the_others_named():
    page = page_of(
        probe(),
        probe("fail", "causality"),
        probe("known", "observer"),
        probe("unavailable", "pattern", reason="llama has none"),
    )
    told = "1/3<br>✗ causality<br>known [observer](findings/it-differs.md)<br>– pattern"
    assert entries(page)["reference probes"] == told
    assert section(page, "### Probes").strip() == "- pattern: `… has none` (1): llama"
    assert count(page, "references' probes: red") == [1, 0, 0, 1]


def test_a_reference_that_keeps_all_that_it_owes_is_green_though_it_does_not_owe_all():
    page = page_of(probe(), probe("unavailable", "pattern"))
    assert entries(page)["reference probes"] == "1/1<br>– pattern"
    assert count(page, "references' probes: ✓") == [1, 0, 0, 1]


def test_a_probe_of_the_reference_may_meet_the_references_own_code_alone():
    page = page_of(probe(sites_passed_through=30))
    assert count(page, "references' probes: ✓") == [1, 0, 0, 1]


def test_a_probe_that_fails_in_any_dtype_is_not_kept():
    page = page_of(probe(), probe("fail", dtype="float32"))
    assert entries(page)["reference probes"] == "0/1<br>✗ padding"
    assert count(page, "references' probes: ✓") == [0, 0, 0, 0]


def test_probes_of_a_port_are_not_the_references():
    page = page_of(row("fail", probe="padding"), row())
    assert entries(page)["reference probes"] == "not asked"
    assert count(page, "references' probes: red") == [0, 0, 0, 0]
    assert "llama-default@shrunk.bridge.exact.padding` ✗" in section(page, "### Red (1)")


def test_a_mode_that_was_asked_of_another_architecture_alone_is_not_a_dash():
    assert entries(page_of(row(), row(mode="hf_sdpa", name="t5")))["hf_sdpa"] == "not asked"


def test_modes_of_transformers_come_first_and_rows_by_type_and_kind():
    rows = [row(name=name) for name in ("llama", "bert.masked", "bert")]
    page = page_of(*rows, row(mode="bridge_compat"), row(mode="hf_sdpa"))
    head = "| type | kind | reference probes | hf_sdpa | bridge | bridge_compat |"
    assert head in page
    places = [page.index(f"| {name} |") for name in ("bert | causal", "bert | masked", "llama")]
    assert places == sorted(places)


def test_no_folder_of_the_machine_is_on_the_page():
    page = page_of(
        row("error", reason="no /home/me/cache/x.json"),
        row("unavailable", mode="hf_sdpa", reason="no /home/me/cache/y.json"),
    )
    assert "/home" not in page
    assert "`no …/x.json`" in page
    assert "`no …/y.json`" in page
