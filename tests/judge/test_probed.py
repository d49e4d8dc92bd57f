"""Gates of probes: from what one side's model keeps to what the other's does."""

from dataclasses import replace

import pytest

from harness.judge.gate import changes_between, judged
from harness.judge.sides import Side

ID = "gpt2-default.hf_sdpa.exact.causality"
PROMPT = {
    "prompt_id": "p",
    "origin": "bank:batch",
    "tokens": [[1, 2]],
    "attention_mask": [[1, 1]],
}


def row(verdict, *failing, probe="causality", **more):
    return {
        "cell_id": ID,
        "family": "gpt2",
        "variant": "default",
        "checkpoint": "synthetic",
        "port": "transformers",
        "loading_mode": "hf_sdpa",
        "dtype": "exact",
        "device": "cpu",
        "probe": probe,
        "verdict": verdict,
        "reason": "because",
        "sites_compared": 40,
        "failing_checks": "; ".join(failing) or None,
        "first_site": "blocks.0.attn.z" if failing else None,
        "first_prompt_id": "p" if failing else None,
        **more,
    }


def side(cell, *, version="1", texts=None):
    return Side(
        name=version,
        packages={"transformers": version, "torch": "2"},
        cells={} if cell is None else {ID: cell},
        references={},
        ports={},
        prompts={},
        smallest={ID: PROMPT} if cell and cell["first_site"] else {},
        texts={ID: texts} if texts else {},
    )


def verdict_of(before, after, **texts):
    old = side(before, texts=texts.get("old"))
    new = side(after, version="2", texts=texts.get("new"))
    return judged(ID, old, new, changes_between(old, new))


KEPT, LOST, LOST_TWICE = row("pass"), row("fail", "no mask"), row("fail", "no mask", "with a mask")
KNOWN = row("known", "no mask")


@pytest.mark.parametrize(
    ("before", "after", "verdict", "worse"),
    [
        (KEPT, KEPT, "unchanged", False),
        (KEPT, LOST, "broke", True),
        (LOST, KEPT, "fixed", False),
        (LOST, LOST, "unchanged", False),
        (KNOWN, LOST, "unchanged", False),
        (KNOWN, LOST_TWICE, "broke", True),
        (LOST_TWICE, LOST, "fixed", False),
        (KEPT, row("error"), "broke", True),
        (KEPT, row("unavailable"), "broke", True),
        (row("unavailable"), KEPT, "appeared", False),
        (row("unavailable"), LOST, "appeared", True),
        (row("error"), KEPT, "fixed", False),
        (row("unavailable"), row("unavailable"), "unmeasured", False),
        (None, KEPT, "appeared", False),
        (None, LOST, "appeared", True),
        (KEPT, None, "vanished", True),
        (KEPT, row("pass", sites_compared=39), "vanished", True),
        (KEPT, row("pass", sites_compared=41), "unchanged", False),
    ],
)
def test_what_is_kept_before_and_after_says_the_verdict(before, after, verdict, worse):
    found = verdict_of(before, after)
    assert (found.verdict, found.worse) == (verdict, worse)


def test_what_broke_says_where_on_which_prompt_and_who():
    found = verdict_of(KEPT, LOST)
    assert found.first_site == "blocks.0.attn.z"
    assert found.prompt == PROMPT
    assert (found.attribution, found.nature) == ("reference", "meaning")
    assert found.moved_by == ("transformers 1 → 2",)
    assert found.reason == "not kept any more: no mask"
    assert found.probe == "causality"


def test_what_breaks_in_a_low_dtype_is_meaning_where_its_exact_twin_breaks():
    twin = ID.replace("exact", "float32")
    low = [row(*kept, cell_id=twin, dtype="float32") for kept in (("pass",), ("fail", "no mask"))]
    for exact, nature in ((LOST, "meaning"), (KEPT, "unknown")):
        old, new = side(KEPT), side(exact)
        old, new = (
            replace(each, cells={**each.cells, twin: cell})
            for each, cell in zip((old, new), low, strict=True)
        )
        assert judged(twin, old, new).nature == nature


def ids(*tokens):
    return {"plain": {"tokens": [list(tokens)], "attention_mask": [[1] * len(tokens)]}}


def test_other_token_ids_are_a_verdict_of_their_own():
    kept = row("pass", probe="tokens")
    moved = verdict_of(kept, kept, old=ids(1, 5, 6), new=ids(5, 6))
    assert (moved.verdict, moved.worse) == ("tokens_moved", True)
    assert moved.reason == "other token ids for: plain"
    gone = verdict_of(kept, kept, old=ids(1, 5, 6), new={})
    assert (gone.verdict, gone.worse) == ("tokens_moved", True)
    same = verdict_of(kept, kept, old=ids(5, 6), new=ids(5, 6))
    assert (same.verdict, same.worse) == ("unchanged", False)
