"""Sums that were found with a model's sites: the branch is named at which one does not hold."""

from types import SimpleNamespace

import pytest
import torch

from harness.errors import Refused
from harness.measure.probes.residual import residual

PRE, BRANCH, POST = "blocks.0.resid_pre", "blocks.0.mixer_out", "blocks.0.resid_post"


def found(taken, **sums):
    family = SimpleNamespace(name="some", automatic=True, sums=sums.get("sums", {}))
    return SimpleNamespace(family=family, plain=lambda _: taken)


def taken(error=0.0):
    pre, branch = torch.full((1, 2, 3), 1.0), torch.full((1, 2, 3), 2.0)
    return {PRE: pre, BRANCH: branch, POST: pre + branch + error}


@pytest.mark.parametrize("error", [0.0, 1e-6])
def test_what_was_found_to_be_added_is_added_up(error):
    (owed,) = residual(found(taken(error), sums={POST: (PRE, BRANCH)}), None)
    assert (owed.check, list(owed.actual)) == ("branches add up", [BRANCH])
    assert torch.equal(owed.actual[BRANCH], owed.expected[BRANCH]) == (error == 0.0)


def test_a_place_that_was_no_sum_is_not_asked():
    with pytest.raises(Refused, match="no two of the stream's hooks"):
        list(residual(found(taken(1.0)), None))
