import dataclasses
from collections import Counter
from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases import ALL
from harness.case import (
    DEFAULT_DTYPES,
    DEVICES,
    DTYPES,
    LOADING_MODES,
    PROBES,
    PROCESSING_FLAGS,
    Case,
    Cell,
    Limitation,
    Prompt,
)

TOKENS = st.integers(0, 66)
NEVER = "pytest>9999"


def limitation(outcome="differs", *, until=NEVER, **axes):
    return Limitation(outcome=outcome, reason="a test", link="docs/none.md", until=until, **axes)


def cell_of(*limitations, family="gpt2", variant="default", mode="bridge", dtype="exact"):
    case = Case(family=family, variant=variant, limitations=limitations)
    return Cell(case=case, loading_mode=mode, dtype=dtype)


@st.composite
def batches(draw):
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    row = st.lists(TOKENS, min_size=length, max_size=length).map(tuple)
    return tuple(draw(row) for _ in range(rows))


def test_every_mode_stands_under_its_own_name():
    assert all(mode.name == name for name, mode in LOADING_MODES.items())


@pytest.mark.parametrize("flag", PROCESSING_FLAGS)
def test_each_processing_flag_has_a_mode_that_sets_it_alone(flag):
    flags = LOADING_MODES[f"bridge_{flag}"].processing.flags()
    assert [name for name, is_set in flags.items() if is_set] == [flag]


@pytest.mark.parametrize("name", ["bridge", "bridge_compat_no_processing", "hf_sdpa"])
def test_a_mode_without_processing_sets_no_flag(name):
    assert not any(LOADING_MODES[name].processing.flags().values())


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("synthetic", "gpt2-default"),
        ("synthetic:gpt2-small", "gpt2-default@gpt2-small"),
        ("packaged:smollm2", "gpt2-default@smollm2"),
        ("hub:some/model@0123abc", "gpt2-default@some--model@0123abc"),
        ("folder:/some/where", "gpt2-default@--some--where"),
    ],
)
def test_a_case_is_named_by_family_variant_and_checkpoint(checkpoint, name):
    assert Case(family="gpt2", checkpoint=checkpoint).id == name


@pytest.mark.parametrize("device", DEVICES)
def test_a_cell_is_named_by_its_axes_and_the_cpu_goes_without_saying(device):
    cell = dataclasses.replace(cell_of(variant="unscaled"), device=device)
    end, words = ("", "") if device == "cpu" else (f".{device}", f" · {device}")
    assert cell.id == f"gpt2-unscaled.bridge.exact{end}"
    assert str(cell) == f"gpt2-unscaled · bridge · exact{words}"


def test_no_two_cells_of_the_matrix_have_one_name():
    names = Counter(
        Cell(case=case, loading_mode=mode, dtype=dtype, device=device).id
        for case in ALL
        for mode in LOADING_MODES
        for dtype in DTYPES
        for device in DEVICES
    )
    assert [name for name, number in names.items() if number > 1] == []


def test_the_name_of_a_cell_of_the_matrix_can_name_a_file():
    assert [case.id for case in ALL if set(case.id) & set('/\\:*?"<>|') or len(case.id) > 150] == []


def test_a_limitation_of_the_matrix_speaks_of_a_cell_that_there_is():
    idle = [
        (case.id, item.reason)
        for case in ALL
        for item in case.limitations
        if not item.over
        and not any(
            item.covers(Cell(case=case, loading_mode=mode, dtype=dtype, probe=probe))
            for mode in (*LOADING_MODES, "nnterp")
            for dtype in DEFAULT_DTYPES
            for probe in (None, *PROBES)
        )
    ]
    assert idle == []


@pytest.mark.parametrize(
    ("outcome", "probes", "probe", "covered"),
    [
        ("differs", (), None, True),
        ("differs", (), "causality", False),
        ("differs", ("causality",), None, False),
        ("differs", ("causality",), "causality", True),
        ("differs", ("causality",), "padding", False),
        ("differs", ("*",), "padding", True),
        ("raises", (), "padding", True),
        ("raises", ("causality",), "padding", False),
    ],
)
def test_a_limitation_speaks_of_comparisons_or_of_the_probes_it_names(
    outcome, probes, probe, covered
):
    cell = dataclasses.replace(cell_of(), probe=probe)
    assert limitation(outcome, probes=probes).covers(cell) == covered


def test_a_limitation_speaks_of_the_checks_it_names_or_of_all():
    assert limitation().speaks_of("left")
    assert limitation(checks=("left*",)).speaks_of("left, positions given")
    assert not limitation(checks=("left*",)).speaks_of("right")


@pytest.mark.parametrize(
    ("axes", "cell", "covered"),
    [
        ({}, {}, True),
        ({"variants": ("unscaled",)}, {"variant": "unscaled"}, True),
        ({"variants": ("unscaled",)}, {"variant": "default"}, False),
        ({"variants": ("*scaled", "other")}, {"variant": "unscaled"}, True),
        ({"loading_modes": ("bridge*",)}, {"mode": "bridge_compat"}, True),
        ({"loading_modes": ("bridge*",)}, {"mode": "hf_sdpa"}, False),
        ({"loading_modes": ("bridge",)}, {"mode": "bridge_compat"}, False),
        ({"dtypes": ("float*",)}, {"dtype": "float16"}, True),
        ({"dtypes": ("float*",)}, {"dtype": "bfloat16"}, False),
        ({"dtypes": ("exact",), "variants": ("default",)}, {"dtype": "exact"}, True),
        ({"dtypes": ("exact",), "variants": ("unscaled",)}, {"dtype": "exact"}, False),
    ],
)
def test_a_limitation_covers_a_cell_that_fits_on_every_axis(axes, cell, covered):
    item = limitation(**axes)
    assert item.covers(cell_of(**cell)) == covered
    assert cell_of(item, **cell).limitations == ((item,) if covered else ())


@pytest.mark.parametrize(
    ("until", "over"),
    [
        (NEVER, False),
        (f"pytest>{version('pytest')}", False),
        (f"pytest>={version('pytest')}", True),
        ("pytest>0.1", True),
    ],
)
def test_a_limitation_is_over_once_the_release_that_ends_it_is_installed(until, over):
    item = limitation(until=until)
    assert item.over == over
    assert item.covers(cell_of()) == (not over)


@pytest.mark.parametrize(
    ("site", "named"),
    [
        ("blocks.0.attn.rot_q", True),
        ("blocks.17.attn.rot_q", True),
        ("blocks.0.attn_out", True),
        ("blocks.1.attn_out", False),
        ("blocks.0.cross_attn.rot_q", False),
        ("blocks.10.attn_out", False),
        ("blocks.0.attn.rot_k", False),
    ],
)
def test_a_limitation_names_sites_with_their_layer_or_of_all_layers(site, named):
    assert limitation(sites=("attn.rot_q", "blocks.0.attn_out")).names(site) == named


@given(batches())
def test_an_unpadded_prompt_is_all_real(tokens):
    prompt = Prompt.unpadded(tokens, origin="a test")
    assert not prompt.padded
    assert {real for row in prompt.attention_mask for real in row} == {1}
    assert [len(row) for row in prompt.attention_mask] == [len(row) for row in tokens]


@pytest.mark.parametrize(
    ("tokens", "mask"),
    [
        ((), ()),
        (((),), ((),)),
        (((1, 2), (3,)), ((1, 1), (1,))),
        (((1, 2),), ((1,),)),
        (((1, 2),), ((1, 1), (1, 1))),
        (((1, 2), (3, 4)), ((1, 1),)),
    ],
)
def test_a_ragged_batch_is_refused(tokens, mask):
    with pytest.raises(ValueError, match="rows of one length"):
        Prompt(tokens=tokens, attention_mask=mask, origin="a test")


@given(batches(), batches())
def test_prompts_have_one_name_exactly_if_they_have_one_content(one, other):
    first, second = (Prompt.unpadded(tokens, origin="a test") for tokens in (one, other))
    assert (first.prompt_id == second.prompt_id) == (one == other)


def test_the_name_of_a_prompt_is_its_content_and_not_where_it_comes_from():
    banked = Prompt.unpadded(((1, 2),), origin="bank:some")
    shrunk = Prompt.unpadded(((1, 2),), origin="shrunk")
    padded = Prompt(tokens=((1, 2),), attention_mask=((0, 1),), origin="bank:some")
    assert banked.prompt_id == shrunk.prompt_id != padded.prompt_id
    assert padded.padded


def test_the_name_of_a_prompt_stays_what_it_is_so_that_old_runs_can_be_joined():
    assert Prompt.unpadded(((1, 2), (3, 4)), origin="x").prompt_id == "e4ed52988815"


@pytest.mark.parametrize("value", [cell_of(), cell_of().case, limitation()])
def test_data_cannot_be_changed(value):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "other")
