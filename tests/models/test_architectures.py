"""Which architectures there are, and whose record speaks of a checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.case import SHRUNK, Case
from harness.errors import CheckpointError, Refused
from harness.models.architectures import (
    architecture_of,
    architectures,
    auto_class_of,
    automatic,
    record_of,
)
from harness.models.checkpoints import Checkpoint
from harness.models.families import FAMILIES
from harness.models.ports.loading import spelled_for_this_release


def stating(architecture):
    """Give a checkpoint of which its config alone is asked."""
    config = property(lambda _: {"architectures": [architecture]})
    return type("Stating", (Checkpoint,), {"config": config})(path=Path("nowhere"), digest="")


def test_no_two_architectures_have_one_name_and_no_class_of_a_type_stands_twice():
    found = architectures()
    assert len(found) > 200
    assert len({(each.model_type, each.variant) for each in found}) == len(found)
    assert len({(each.model_type, each.class_name) for each in found}) == len(found)


def test_the_first_kind_of_a_type_is_its_default_and_the_others_have_their_names():
    assert architecture_of("bart", "default").class_name == "BartForCausalLM"
    assert architecture_of("bart", "seq2seq").class_name == "BartForConditionalGeneration"
    assert architecture_of("bert", "masked").class_name == "BertForMaskedLM"
    assert architecture_of("t5", "default").kind == "seq2seq"
    assert architecture_of("lama", "default") is None


def test_each_architecture_has_a_variant_of_flipped_fields_by_a_name_of_its_own():
    found = architectures()
    assert len({(each.model_type, name) for each in found for name in each.variants}) == (
        2 * len(found)
    )
    assert architecture_of("bart", "off_default") == architecture_of("bart", "default")
    assert architecture_of("bart", "seq2seq_off_default") == architecture_of("bart", "seq2seq")
    assert architecture_of("bart", "default_off_default") is None


def test_of_flipped_fields_the_sites_are_found():
    """A hand-written record speaks of the default's modules; of its own `off_default`, too."""
    case = Case(family="llama", variant="off_default", checkpoint=SHRUNK)
    assert record_of(case, stating("LlamaForCausalLM")).automatic
    assert record_of(replace(case, checkpoint="synthetic"), stating("A")) is FAMILIES["llama"]


def test_a_hand_written_record_wins_where_it_speaks_of_the_class():
    shrunk = Case(family="llama", checkpoint=SHRUNK)
    assert record_of(shrunk, stating("LlamaForCausalLM")) is FAMILIES["llama"]
    assert record_of(Case(family="llama"), stating("Another")) is FAMILIES["llama"]


@pytest.mark.parametrize(
    ("family", "architecture", "causal"),
    [("bert", "BertLMHeadModel", True), ("arcee", "ArceeForCausalLM", True),
     ("roberta", "RobertaForMaskedLM", False)],
)  # fmt: skip
def test_of_any_other_class_the_sites_are_found(family, architecture, causal):
    record = record_of(Case(family=family, checkpoint=SHRUNK), stating(architecture))
    assert record == automatic(family, auto_class_of({"architectures": [architecture]}))
    assert (record.automatic, record.causal) == (True, causal)


def test_a_shrunk_checkpoint_of_an_architecture_of_another_release_is_refused():
    later = stating("TomorrowForCausalLM")
    with pytest.raises(Refused, match=r"transformers \S+ has no TomorrowForCausalLM"):
        record_of(Case(family="tomorrow", checkpoint=SHRUNK), later)
    with pytest.raises(CheckpointError, match="import the module that registers it"):
        record_of(Case(family="tomorrow", checkpoint="folder:mine"), later)


@pytest.mark.parametrize("stated", [{}, {"architectures": ["NobodyForCausalLM"]}])
def test_an_architecture_that_no_list_has_is_refused(stated):
    with pytest.raises(CheckpointError, match="import the module that registers it"):
        auto_class_of(stated)


class Config:
    def __init__(self, **fields):
        self.to_dict = lambda: fields


@pytest.mark.parametrize(
    ("fields", "eager"),
    [
        ({"moe_num_experts": 4}, True),
        ({"text_config": {"n_routed_experts": 4}}, True),
        ({"num_experts": 0, "hidden_size": 4}, False),
        ({"text_config": {"hidden_size": 4}}, False),
    ],
)
def test_experts_of_any_name_run_eagerly(fields, eager):
    asked = spelled_for_this_release("exact", Config(**fields))
    assert ("experts_implementation" in asked) == eager
