import pyarrow as pa
import pytest

from harness.case import LOADING_MODES
from harness.record import (
    COLUMNS,
    SCHEMA_VERSION,
    VERDICTS,
    read_cells,
    read_deltas,
    read_prompts,
    write_json,
    write_part,
)
from harness.report.words import (
    failure_message,
    logits_table,
    message_of,
    print_run,
    quantiles_table,
)

LABEL, TOKENS = pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.list_(pa.int64()))
PLAIN = {
    pa.string(): "",
    LABEL: "",
    pa.int64(): 0,
    pa.float64(): 0.0,
    pa.float32(): 0.0,
    pa.bool_(): False,
    TOKENS: [[1]],
}
AXES = {
    "run_id": "a-run",
    "family": "gpt2",
    "variant": "default",
    "checkpoint": "synthetic",
    "port": "bridge",
    "loading_mode": "bridge",
    "dtype": "exact",
    "device": "cpu",
}
SITE = "blocks.1.mlp_out"


def row_of(kind, **values):
    """Give a row of a kind: empty where nothing is said, missing where it may be."""
    plain = {
        column.name: None if column.missing else PLAIN[column.type] for column in COLUMNS[kind]
    }
    return {**plain, **{name: AXES[name] for name in AXES if name in plain}, **values}


def cell(verdict="pass", **axes):
    named = {**AXES, **axes}
    device = () if named["device"] == "cpu" else (named["device"],)
    case = f"{named['family']}-{named['variant']}"
    cell_id = ".".join((case, named["loading_mode"], named["dtype"], *device))
    ran = verdict not in {"unavailable", "error"}
    numbers = {"sites_compared": 60, "sites_passed_through": 20} if ran else {}
    if ran:
        numbers |= {"worst_rel_l2": 3e-16, "worst_error_ratio": 1.25}
    failed = {"first_site": SITE, "first_prompt_id": "p1"} if verdict == "fail" else {}
    reason = None if verdict == "pass" else f"because it is {verdict}"
    plain = {"cell_id": cell_id, "verdict": verdict, "reason": reason, "sites_missing": 2}
    return row_of("cells", **{**plain, **numbers, **failed, **axes})


def delta(**values):
    measured = {"cell_id": "gpt2-default.bridge.exact", "prompt_id": "p1", "site": SITE}
    return row_of("deltas", **{**measured, "verdict": "fail", "relation": "equal", **values})


def prompt(*rows, origin="shrunk"):
    tokens = [list(row) for row in rows]
    cell_id = "gpt2-default.bridge.exact"
    return row_of("prompts", cell_id=cell_id, prompt_id="p1", tokens=tokens, origin=origin)


def message(cell_row, *deltas, prompts=None):
    prompts = [prompt((5, 6))] if prompts is None else prompts
    return failure_message(cell_row, deltas or [delta()], prompts)


@pytest.fixture
def printed(tmp_path):
    """Give a function that writes cells as a run and gives the lines printed for it."""

    def show(*cells, deltas=(), prompts=(), messages=False):
        run = tmp_path / "a-run"
        write_json(run / "run.json", {"schema_version": SCHEMA_VERSION})
        for row in cells:
            write_part(run, "cells", row["cell_id"], [row])
        for kind, rows in (("deltas", deltas), ("prompts", prompts)):
            if rows:
                write_part(run, kind, "some", rows)
        lines = []
        print_run(run, write=lines.append, messages=messages)
        return lines

    return show


def entry_of(lines, name="gpt2"):
    """Give what stands beside a family in the table, cell by cell."""
    line = next(line for line in lines if line.strip("│ ").startswith(name))
    return [part.strip() for part in line.strip("│").split("│")][1:]


def line_with(lines, words):
    found = [line for line in lines if words in line]
    assert len(found) == 1, lines
    return found[0]


def test_a_failure_in_exact_mode_says_what_was_found_allowed_and_what_comes_next():
    row = cell("fail", tightest_relation="no simple relation holds", sites_compared=61)
    found = delta(rel_l2=3.2e-5, max_abs=0.01, worst_index="0,1,3", bound=1e-11)
    lines = message(row, found, delta(site="logits")).splitlines()
    assert lines[0] == f"{SITE}: port differs from reference [gpt2-default · bridge · exact]"
    assert lines[1] == "  found:   rel_l2 3.2e-05 in true float64, max |Δ| 0.01 at [0,1,3]"
    assert lines[2].startswith("  allowed: 1e-11 (harness/bounds.py")
    assert lines[3] == "  sense:   compared as equal; no simple relation holds"
    assert lines[4].startswith("  first:   the first of 2 failing sites in forward order, of 61")
    assert lines[5] == "  prompt:  [5, 6] (1 × 2 tokens, shrunk)"
    assert lines[-2] == "  next:    harness explain a-run gpt2-default.bridge.exact"
    assert lines[-1] == "           harness replay a-run gpt2-default.bridge.exact"


def test_a_failure_in_a_dtype_says_whose_error_it_is():
    row = cell("fail", dtype="float32")
    found = delta(
        dtype="float32", error_ratio=212.4, port_error=7.1e-5, reference_error=3.3e-7, bound=3.0
    )
    told = message(row, found)
    assert "found:   error ratio 212 (port 7.1e-05, reference 3.3e-07" in told
    assert "against the float64 oracle" in told
    assert "allowed: 3 " in told


def test_the_row_that_is_told_is_that_of_the_smallest_prompt_at_the_first_site():
    others = (delta(prompt_id="p2", rel_l2=0.5), delta(site="logits", rel_l2=0.25))
    assert "rel_l2 0.75 " in message(cell("fail"), *others, delta(rel_l2=0.75))


@pytest.mark.parametrize(("length", "cut"), [(40, False), (41, True), (5000, True)])
def test_a_long_prompt_is_cut_and_its_size_is_told(length, cut):
    told = message(cell("fail"), prompts=[prompt(range(100, 100 + length))])
    line = line_with(told.splitlines(), "prompt:")
    assert ("…" in line) == cut
    assert len(line) < 300
    assert f"(1 × {length} tokens, shrunk)" in line


def test_a_prompt_of_several_rows_is_told_row_by_row():
    told = message(cell("fail"), prompts=[prompt((5, 6), (7, 8), origin="bank:batch")])
    assert "[[5, 6], [7, 8]] (2 × 2 tokens, bank:batch)" in told


@pytest.mark.parametrize("verdict", ["error", "stale"])
def test_a_cell_without_a_failing_site_says_why(verdict):
    lines = failure_message(cell(verdict), [], []).splitlines()
    assert lines[0] == f"{verdict} [gpt2-default · bridge · exact]"
    assert lines[1] == f"  found:   because it is {verdict}"
    assert lines[2].startswith("  next:    harness explain")


def test_a_cell_that_broke_while_its_failure_was_described_says_why():
    row = cell("error", first_site=SITE, first_prompt_id=None)
    assert "found:   because it is error" in failure_message(row, [delta()], [])


def test_dots_in_the_name_of_a_case_stay_what_they_are():
    row = cell("error", cell_id="qwen2-default@Qwen2.5-0.5B.bridge.exact.cuda", device="cuda")
    told = failure_message(row, [], [])
    assert "[qwen2-default@Qwen2.5-0.5B · bridge · exact · cuda]" in told


@pytest.mark.parametrize(
    ("verdicts", "entry"),
    [
        (("pass",), "≤3e-16"),
        (("fail",), "✗1"),
        (("fail", "fail"), "✗2"),
        (("known",), "known1"),
        (("stale",), "stale1"),
        (("error",), "error1"),
        (("unavailable",), "–"),
        (("unavailable", "unavailable"), "–"),
        (("pass", "unavailable"), "≤3e-16 –1"),
        (("pass", "fail", "known"), "≤3e-16 ✗1 known1"),
    ],
)
def test_a_table_entry_shows_every_verdict_in_it(verdicts, entry, printed):
    cells = [cell(verdict, variant=f"v{i}") for i, verdict in enumerate(verdicts)]
    assert entry_of(printed(*cells)) == [entry]


def test_a_table_entry_is_the_worst_error_ratio_of_the_cells_that_passed(printed):
    cells = [
        cell(dtype="float32", worst_error_ratio=1.1),
        cell(dtype="bfloat16", worst_error_ratio=2.5),
        cell("fail", dtype="float16", worst_error_ratio=99.0),
        cell(worst_rel_l2=1e-13),
    ]
    assert entry_of(printed(*cells)) == ["2.5 ✗1"]


def test_the_table_has_a_column_for_each_mode_that_ran_in_their_order(printed):
    modes = ("hf_sdpa", "bridge")
    verdicts = ("fail", "pass")
    lines = printed(*(cell(v, loading_mode=m) for v, m in zip(verdicts, modes, strict=True)))
    assert [mode for mode in LOADING_MODES if mode in modes] == ["bridge", "hf_sdpa"]
    assert entry_of(lines) == ["≤3e-16", "✗1"]


def test_real_weights_have_a_line_of_their_own(printed):
    real = cell("fail", checkpoint="hub:gpt2@0123abc", cell_id="gpt2-default@x.bridge.exact")
    lines = printed(cell(), real)
    assert entry_of(lines, "gpt2 ") == ["≤3e-16"]
    assert entry_of(lines, "gpt2@gpt2@0123abc") == ["✗1"]


def test_a_green_cell_without_code_of_the_ports_own_is_told_to_be_delegated(printed):
    delegated = cell(family="f1", sites_passed_through=60)
    lines = printed(cell(), delegated)
    assert line_with(lines, "2 cells: ").startswith("2 cells: 2 pass (1 of them delegated: ")
    assert entry_of(lines, "f1 ") == ["(≤3e-16)"]


def test_a_table_entry_is_of_the_cells_that_are_evidence(printed):
    delegated = cell(dtype="float32", sites_passed_through=60, worst_error_ratio=3.5)
    assert entry_of(printed(cell(), delegated), "gpt2 ") == ["≤3e-16"]


def test_a_port_that_computes_something_itself_is_not_delegated(printed):
    assert "delegated" not in line_with(printed(cell()), "1 cells: ")


def test_every_cell_is_counted_by_its_verdict(printed):
    lines = printed(*(cell(verdict, family=f"f{i}") for i, verdict in enumerate(VERDICTS)))
    counts = line_with(lines, "6 cells: ")
    for verdict in VERDICTS:
        assert f"1 {verdict}" in counts
    assert "240 sites compared or put to probes, of these 160 computed by the port's" in counts
    assert "12 sites not to be had" in counts


def test_what_is_unavailable_is_not_counted_as_passed(printed):
    counts = line_with(printed(cell("unavailable")), "sites compared")
    assert "1 unavailable" in counts
    assert "pass;" not in counts
    assert "0 sites compared" in counts


def test_what_was_not_measured_is_said_with_its_reason_and_its_cells(printed):
    cells = [
        cell("unavailable", family=f"f{i}", reason="no such device" if i < 9 else "refused")
        for i in range(10)
    ]
    lines = printed(*cells)
    told = line_with(lines, "NOT MEASURED, 9 cells: no such device")
    assert "f0 · bridge" in told
    assert "and 3 more" in told
    assert "[f9 · bridge]" in line_with(lines, "NOT MEASURED, 1 cells: refused")


def test_where_everything_was_measured_nothing_is_said_to_be_missing(printed):
    assert not any("NOT MEASURED" in line for line in printed(cell(), cell("known", family="f")))


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("fail", f"FAIL gpt2-default.bridge.exact at {SITE}"),
        ("stale", "STALE gpt2-default.bridge.exact: because it is stale"),
        ("error", "ERROR gpt2-default.bridge.exact: because it is error"),
    ],
)
def test_every_red_cell_has_a_line(verdict, told, printed):
    assert told in printed(cell(verdict))


@pytest.mark.parametrize("verdict", ["pass", "known", "unavailable"])
def test_no_other_cell_has_one(verdict, printed):
    words = ("FAIL", "STALE", "ERROR", "PASS", "KNOWN", "UNAVAILABLE")
    assert not any(line.startswith(words) for line in printed(cell(verdict)))


def test_the_last_line_says_where_the_rows_are(printed, tmp_path):
    assert printed(cell())[-1] == f"rows: {tmp_path / 'a-run'}"


def test_a_run_whose_relations_were_forced_says_so_in_its_last_line(printed, tmp_path):
    printed(cell())
    described = {"schema_version": SCHEMA_VERSION, "plan": {"relation": "equal"}}
    write_json(tmp_path / "a-run" / "run.json", described)
    lines = []
    print_run(tmp_path / "a-run", write=lines.append)
    assert lines[-1].startswith("FORCED: every comparison was forced to be equal")


def test_messages_are_printed_for_who_asks(printed):
    rows = {"deltas": [delta(rel_l2=0.75)], "prompts": [prompt((5, 6))]}
    told = "\n".join(printed(cell("fail"), **rows, messages=True))
    assert f"{SITE}: port differs from reference" in told
    assert "rel_l2 0.75 in true float64" in told
    assert "port differs" not in "\n".join(printed(cell("fail"), **rows))


def test_a_run_in_which_every_cell_broke_can_be_printed_with_messages(printed):
    told = "\n".join(printed(cell("error"), messages=True))
    assert "found:   because it is error" in told


def test_the_message_of_a_stored_cell_is_the_one_that_was_printed(tmp_path, printed):
    deltas, prompts = [delta(rel_l2=0.75)], [prompt((5, 6), (7, 8))]
    row = cell("fail", tightest_relation="equal")
    printed(row, deltas=deltas, prompts=prompts)
    run = tmp_path / "a-run"
    stored = message_of(read_cells(run).iloc[0], read_deltas(run), read_prompts(run))
    assert stored == failure_message(row, deltas, prompts)


def cells_in(table):
    return [list(column.cells) for column in table.columns]


def test_logits_are_told_before_and_after_the_relation(tmp_path, printed):
    logits = {"site": "logits", "relation": "shift", "verdict": "pass", "std_port": 1.5}
    rows = [
        delta(**logits, mean_port=2.0, mean_reference=1.0, raw_max_abs=1.0, max_abs=1e-6),
        delta(**logits, mean_port=0.0, mean_reference=3.0, raw_max_abs=4.0, max_abs=1e-7),
        delta(raw_max_abs=99.0),
    ]
    printed(cell(), deltas=rows)
    (line,) = zip(*cells_in(logits_table(read_deltas(tmp_path / "a-run"))), strict=True)
    assert line[:5] == ("gpt2-default", "bridge", "exact", "shift", "-3.00e+00")
    assert line[7] == "4.00e+00"
    assert line[9] == "1.00e-06"


def probed(verdict="pass", probe="causality", **axes):
    row = cell(verdict, probe=probe, **axes)
    return {**row, "cell_id": f"{row['cell_id']}.{probe}", "failing_checks": axes.get("checks")}


def test_probes_have_a_table_of_their_own_by_family_and_probe(printed):
    known = probed("known", "padding", dtype="float32")
    lines = printed(
        cell(), probed(), probed("fail", "padding"), known, probed("unavailable", "batch")
    )
    tables = [line.strip().removesuffix(" mode") for line in lines if " × " in line]
    assert tables == ["family × loading", "family × probe"]
    of_probes = lines[lines.index(next(line for line in lines if "family × probe" in line)) :]
    assert entry_of(of_probes) == ["1", "–", "✗1 k1"]
    assert line_with(lines, "5 cells:")
    assert line_with(lines, "FAIL gpt2-default.bridge.exact.padding at blocks.1.mlp_out")


def test_a_probe_that_is_not_kept_says_which_check_and_what_is_owed():
    row = {**probed("fail"), "failing_checks": "no mask; with attentions"}
    first = delta(check="no mask", rel_l2=0.25, max_abs=0.5, worst_index="0,1", bound=1e-11)
    other = delta(check="with attentions", site="logits")
    words = message(row, {**first, "dtype": "exact"}, other)
    assert words.splitlines()[0] == (
        "blocks.1.mlp_out: causality is not kept [gpt2-default · bridge · exact · causality]"
    )
    for part in ("check:   no mask;", "no mask; with attentions", "rel_l2 0.25", "allowed: 1e-11"):
        assert part in words
    assert "measure/probes/causality.py says what and why" in words
    assert "first of 1 failing" in words
    assert words.endswith("harness replay a-run gpt2-default.bridge.exact.causality")
    assert "next:    harness explain a-run gpt2-default.bridge.exact.causality" in words


def test_what_is_judged_is_told_as_quantiles_beside_its_bound(tmp_path, printed):
    exact = [delta(rel_l2=value, bound=1e-11, chance_factor=1.0) for value in (1e-16, 3e-16)]
    low = [delta(dtype="float32", error_ratio=2.0, chance_factor=2.0, bound=6.0)]
    printed(cell(), deltas=[*exact, *low])
    table = quantiles_table(read_deltas(tmp_path / "a-run"))
    first, second = sorted(zip(*cells_in(table), strict=True))
    assert (first[0], first[1], first[-2], first[-1]) == ("exact", "2", "3e-16", "1e-11")
    assert (second[0], second[1], second[-2], second[-1]) == ("float32", "1", "1", "3")


def test_probes_have_quantiles_of_their_own_but_not_what_may_not_differ_by_one_bit(
    tmp_path, printed
):
    asked = {"probe": "causality", "check": "no mask"}
    rows = [
        delta(rel_l2=1e-16, bound=1e-11, chance_factor=1.0),
        delta(rel_l2=2e-16, bound=1e-11, chance_factor=1.0, **asked),
        delta(rel_l2=0.0, bound=0.0, chance_factor=1.0, **asked),
    ]
    printed(cell(), deltas=rows)
    table = quantiles_table(read_deltas(tmp_path / "a-run"))
    first, second = sorted(zip(*cells_in(table), strict=True))
    assert (first[0], first[1], first[-2]) == ("exact", "1", "1e-16")
    assert (second[0], second[1], second[-2]) == ("exact, probes", "1", "2e-16")
