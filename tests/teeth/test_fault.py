"""Planting: the fault is there inside the context, and all is as it was behind it."""

from functools import partial

import pytest
import torch
from torch import nn

from harness.teeth.fault import NotPlantedError, attribute, changed, hooked


def test_a_parameter_is_changed_in_place_and_put_back():
    parameter = nn.Parameter(torch.arange(4.0))
    with changed(parameter, lambda value: value + 1.0):
        assert parameter.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert parameter.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_change_that_the_dtype_rounds_away_is_no_fault():
    parameter = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    with (
        pytest.raises(NotPlantedError, match="bfloat16 holds no such change"),
        changed(parameter, lambda value: value * (1.0 + 1e-6)),
    ):
        pytest.fail("it was planted")


def test_a_parameter_is_put_back_where_the_run_broke_off():
    parameter = nn.Parameter(torch.ones(2))
    with pytest.raises(RuntimeError), changed(parameter, torch.zeros_like):
        raise RuntimeError
    assert parameter.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("before", [nn.GELU(), partial(nn.functional.gelu, approximate="tanh")])
@pytest.mark.parametrize("other", [nn.SiLU(), nn.functional.relu])
def test_a_child_may_be_a_module_or_a_function_and_is_put_back(before, other):
    owner = nn.Module()
    owner.act = before
    with attribute(owner, "act", other):
        assert owner.act is other
    assert owner.act is before
    assert ("act" in owner._modules) == isinstance(before, nn.Module)


def test_a_hook_is_there_inside_alone():
    linear, ones = nn.Linear(2, 2), torch.ones(1, 2)
    clean = linear(ones)
    with hooked(linear, lambda _, output: output * 0.0, side="out"):
        assert not linear(ones).any()
    with hooked(linear, lambda args, kwargs: ((args[0] * 0.0,), kwargs), side="in"):
        assert torch.equal(linear(ones)[0], linear.bias)
    assert torch.equal(linear(ones), clean)
