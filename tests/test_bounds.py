import pytest
import torch

from harness import bounds
from harness.case import DTYPES

KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@pytest.mark.parametrize("dtype", KINDS)
def test_the_error_of_one_rounding_is_the_one_that_rounding_makes(dtype):
    generator = torch.Generator().manual_seed(0)
    exponents = torch.rand(200_000, generator=generator, dtype=torch.float64) * 8 - 4
    values = 2.0**exponents
    errors = values.to(KINDS[dtype]).double() / values - 1
    assert bounds.error_floor(dtype) == pytest.approx(errors.pow(2).mean().sqrt().item(), rel=0.01)


@pytest.mark.parametrize("values", [4, 20, 50, 400, 20_000])
def test_chance_exceeds_its_factor_about_once_in_a_million(values):
    squared = torch.tensor(bounds.chance_factor(values) ** 2 * values / 2, dtype=torch.float64)
    half = torch.tensor(values / 2, dtype=torch.float64)
    assert 0.2e-6 < torch.special.gammaincc(half, squared).item() < 5e-6


def test_chance_does_less_the_more_values_there_are():
    factors = [bounds.chance_factor(values) for values in (1, 2, 4, 50, 10**6, 10**9)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(1.0, abs=1e-3)


def test_where_nothing_was_compared_there_is_a_factor_all_the_same():
    assert bounds.chance_factor(0) == bounds.chance_factor(1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_a_bound_above_what_its_rounding_makes(dtype):
    plain, refactored = (bounds.bound_for(dtype, refactored=is_on) for is_on in (False, True))
    if dtype == "exact":
        assert plain == refactored == bounds.EXACT_BOUND
        assert bounds.error_floor(dtype) < plain / 1000
    else:
        assert 1.5 < plain < refactored


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_masks_out_lies_far_below_any_score(dtype):
    kind = KINDS.get(dtype, torch.float64)
    assert torch.finfo(kind).min < bounds.masked_below(dtype) < -1e4


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mask_that_was_divided_with_the_scores_masks_out_still(dtype):
    kind = KINDS.get(dtype, torch.float64)
    d_head = 8 if dtype == "float16" else 256
    assert torch.finfo(kind).min / d_head**0.5 < bounds.masked_below(dtype)
