import pytest
import torch

from harness.case import Case, Cell
from harness.errors import Refused, Unavailable, UsageError
from harness.measure import references as module
from harness.measure.memory import VARIABLE, float64_bytes, memory_for_weights
from harness.measure.prompts import Vocabulary, bank
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.families import FAMILIES
from harness.models.ports import lent

NATIVE = [name for name, family in FAMILIES.items() if family.is_native]


@pytest.fixture
def little(monkeypatch):
    """Have less memory than any model takes in float64."""
    monkeypatch.setattr(module, "SURELY", 0)
    monkeypatch.setenv(VARIABLE, "0.000001")


def cell_of(family, dtype="bfloat16", mode="hf_sdpa", variant="default"):
    return Cell(case=Case(family=family, variant=variant), loading_mode=mode, dtype=dtype)


@pytest.mark.parametrize("family", NATIVE)
def test_weights_that_are_lent_give_the_numbers_of_weights_that_are_held(family, monkeypatch):
    whole = References().of(cell_of(family))
    prompts = bank(Vocabulary.of(whole.checkpoint.config, padding=True))
    monkeypatch.setattr(module, "SURELY", 0)
    monkeypatch.setenv(VARIABLE, "0.000001")
    borrowing = References().of(cell_of(family))
    assert not list(held(borrowing.oracle.runner.model))
    for prompt in prompts[-2:]:
        wanted, found = (each.oracle.activations(prompt) for each in (whole, borrowing))
        assert list(wanted) == list(found)
        assert all(torch.equal(tensor, found[site]) for site, tensor in wanted.items())
    assert not list(held(borrowing.oracle.runner.model))


def held(model):
    """Give the parameters that are in memory."""
    return (each for each in model.parameters() if each.device.type != "meta")


@pytest.mark.usefixtures("little")
def test_a_cell_that_borrows_its_oracle_is_judged_as_one_that_holds_it(monkeypatch):
    plan = Plan(drawn=0)
    borrowed = measure_cell(
        cell_of("llama", mode="bridge_compat"), run_id="r", references=References(), plan=plan
    )
    monkeypatch.delenv(VARIABLE)
    whole = measure_cell(
        cell_of("llama", mode="bridge_compat"), run_id="r", references=References(), plan=plan
    )
    assert borrowed.verdict == whole.verdict == "pass"
    assert borrowed.deltas == whole.deltas


@pytest.mark.usefixtures("little")
def test_exact_mode_that_does_not_fit_is_unavailable_and_says_what_does():
    with pytest.raises(Unavailable, match=r"ask a lower dtype.*module by module"):
        References().of(cell_of("gpt2", "exact"))


def test_float64_is_counted_off_the_headers():
    reference = References().of(cell_of("llama", "exact"))
    weights = dict(reference.runner.model.named_parameters())
    assert float64_bytes(reference.checkpoint) == sum(each.nbytes for each in weights.values())


def test_memory_is_what_is_told_or_a_share_of_what_is_free(monkeypatch):
    monkeypatch.setenv(VARIABLE, "2.5")
    assert memory_for_weights() == 2.5 * 2**30
    for words in ("much", "inf", "nan"):
        monkeypatch.setenv(VARIABLE, words)
        with pytest.raises(UsageError, match="is no number of GiB; write 8"):
            memory_for_weights()
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "1")
    alone = memory_for_weights()
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    assert 0 < memory_for_weights() < alone / 2


@pytest.mark.usefixtures("little")
def test_parameters_that_do_not_fit_what_is_lent_are_refused(monkeypatch):
    monkeypatch.setattr(lent.Widened, "__iter__", lambda _: iter(["strange.weight"]))
    with pytest.raises(Refused, match="other parameters"):
        References().of(cell_of("gpt2"))
