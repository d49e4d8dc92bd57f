import pytest

from harness.measure.changes import changed, others, pool_of, without

CONFIG = {"width": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
TYPE = ("rope_parameters", "rope_type")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, [False]),
        (4, [8, 5, 2, 3]),
        (2.0, [4.0, 1.0, 0.2, 3.0]),
        ([], [[0]]),
        ([1.0, 2.0], [[2.0, 4.0]]),
    ],
)
def test_other_values_have_the_type_of_the_one_there_is(value, expected):
    assert list(others(("width",), value, {})) == expected


def test_layers_are_flipped_all_and_one_alone():
    layers = ["full_attention", "sliding_attention"]
    assert list(others(("layer_types",), layers, {})) == [
        ["sliding_attention", "full_attention"],
        ["sliding_attention", "sliding_attention"],
    ]


def test_no_value_is_its_own_other():
    pool = {"hidden_act": ["gelu", "silu"]}
    assert "silu" not in others(("hidden_act",), "silu", pool)


def test_what_records_say_fills_in_for_none():
    pool = pool_of([{("clip_qkv",): 0.75}, {("clip_qkv",): None}])
    assert next(others(("clip_qkv",), None, pool)) == 0.75


def test_a_change_leaves_the_config_alone():
    assert changed(CONFIG, ("rope_parameters", "rope_theta"), 1.0)["rope_parameters"] == {
        "rope_type": "default",
        "rope_theta": 1.0,
    }
    assert CONFIG["rope_parameters"]["rope_theta"] == 1e4


def test_a_rotary_type_comes_with_what_it_needs():
    linear = next(others(TYPE, "default", {}))
    assert changed(CONFIG, TYPE, linear)["rope_parameters"] == {"rope_theta": 1e4, **linear}


def test_a_field_left_out_is_gone():
    assert without(CONFIG, TYPE)["rope_parameters"] == {"rope_theta": 1e4}
