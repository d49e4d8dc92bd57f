"""What is known of tiny checkpoints is known of something that there is."""

from cases import breadth_flipped as flipped
from cases.breadth_limitations import _OF_TYPES, LIMITATIONS
from harness.models.architectures import architectures

THERE = {(each.model_type, each.kind) for each in architectures()}


def named(table):
    return {(name, kind) for _, kind, names in table for name in names}


def inherited():
    return {(name, kind) for kind, names in flipped.INHERITED.items() for name in names}


def test_every_type_that_is_named_is_an_architecture_of_its_kind():
    assert named(_OF_TYPES) | named(flipped.OF_TYPES) | inherited() <= THERE


def test_every_row_is_among_the_limitations():
    for item, kind, names in _OF_TYPES:
        assert all(item in LIMITATIONS[name, kind] for name in names)
    for item, kind, names in flipped.OF_TYPES:
        assert all(item in LIMITATIONS[name, f"{kind}_off_default"] for name in names)


def test_who_inherits_has_something_to_inherit():
    for name, kind in inherited():
        of_comparisons = [item for item in LIMITATIONS[name, kind] if not item.probes]
        assert of_comparisons
        assert set(of_comparisons) <= set(LIMITATIONS[name, f"{kind}_off_default"])
