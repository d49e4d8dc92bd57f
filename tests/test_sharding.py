import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases import ALL
from harness.case import Case, Cell
from harness.errors import UsageError
from harness.selection import Selection, cells_of, probe_cells_of
from harness.sharding import LARGE, Shard, cases_by_shard, divided, shard_named

DEFAULT = (*cells_of(ALL, Selection()), *probe_cells_of(ALL, Selection()))
NAMES = st.text("abcdefg", min_size=1, max_size=3)


def shards(cells, count):
    return [divided(cells, Shard(index=index, count=count)) for index in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16])
def test_shards_of_the_matrix_are_disjoint_and_their_union_is_the_whole(count):
    found = [own for own, _ in shards(DEFAULT, count)]
    assert sum(map(len, found)) == len(frozenset().union(*found))
    assert frozenset().union(*found) == {cell.id for cell in DEFAULT}


@pytest.mark.parametrize("count", [2, 4, 7])
def test_cells_of_a_case_stay_together(count):
    cases = [
        {cell.case.id for cell in DEFAULT if cell.id in own} for own, _ in shards(DEFAULT, count)
    ]
    assert sum(map(len, cases)) == len({cell.case.id for cell in DEFAULT})


@pytest.mark.parametrize("count", [2, 4])
def test_shards_of_the_matrix_weigh_about_the_same(count):
    loads = [
        sum(
            LARGE if cell.case.checkpoint != "synthetic" else 1
            for cell in DEFAULT
            if cell.id in own
        )
        for own, _ in shards(DEFAULT, count)
    ]
    assert max(loads) < 1.05 * min(loads)


@given(st.dictionaries(NAMES, st.integers(1, 50), max_size=12), st.integers(1, 9))
def test_any_cases_are_divided_whole(weights, count):
    found = cases_by_shard(weights, count)
    assert len(found) == count
    assert sorted(name for share in found for name in share) == sorted(weights)


@given(st.dictionaries(NAMES, st.integers(1, 50), max_size=12), st.randoms())
def test_how_cases_are_divided_does_not_depend_on_their_order(weights, random):
    turned = list(weights.items())
    random.shuffle(turned)
    assert cases_by_shard(weights, 3) == cases_by_shard(dict(turned), 3)


def test_every_shard_knows_the_whole_and_how_many_cells_it_has():
    parts = shards(DEFAULT, 4)
    assert {part.of for _, part in parts} == {len({cell.id for cell in DEFAULT})}
    assert len({part.whole for _, part in parts}) == 1
    assert [part.cells for _, part in parts] == [len(own) for own, _ in parts]


def test_another_question_has_another_digest():
    one = Cell(case=Case(family="gpt2"), loading_mode="bridge", dtype="exact")
    two = Cell(case=Case(family="gpt2"), loading_mode="bridge", dtype="float32")
    first = Shard(index=1, count=2)
    assert divided([one], first)[1].whole != divided([one, two], first)[1].whole


@pytest.mark.parametrize("words", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4 ", "01/4", ""])
def test_what_is_no_shard_is_refused(words):
    with pytest.raises(UsageError, match="is no shard"):
        shard_named(words)


def test_a_shard_is_named_as_it_is_printed():
    assert str(shard_named("3/12")) == "3/12"
