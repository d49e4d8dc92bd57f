"""Flips in words: counts and sums, what is said of an architecture, every field in a file."""

import csv
from io import StringIO

import pytest
from rich.console import Console

from harness.coverage import Flip, Flips, as_json, flips_from
from harness.report.flipped import counts, lines, table, write_csv

FLIPS = Flips(
    changing=(
        Flip(name="act", before="gelu", after="relu", change=0.25),
        Flip(name="kinds", before=["a", "b"], after=["b", "a"], change=1.5),
    ),
    idle=("speed",),
    failing={"legacy": "KeyError: 'it'"},
    untried=(),
    joined=("act",),
    apart={"kinds": "it changes nothing beside the others"},
)
CUT = Flips(changing=(), idle=("a", "b"), failing={}, untried=("c",), joined=(), apart={})


def test_fields_are_counted_by_what_became_of_them():
    assert counts(FLIPS) == (4, 2, 1, 1, 1, 0)
    assert counts(CUT) == (2, 0, 0, 2, 0, 1)


def test_the_table_has_each_architecture_and_the_sums():
    stream = StringIO()
    Console(file=stream, width=150).print(table({"bert-masked": FLIPS, "gpt2-default": CUT}))
    rows = [line.replace("│", " ").split() for line in stream.getvalue().splitlines()]
    assert ["bert-masked", "4", "2", "1", "1", "1", "0"] in rows
    assert ["all", "2", "6", "2", "1", "3", "1", "1"] in rows


def test_an_experiment_that_was_cut_or_found_nothing_is_named_and_a_whole_one_is_silent():
    assert lines({"bert-masked": FLIPS}) == []
    assert lines({"gpt2-default": CUT}) == [
        "gpt2-default: the time was up; not tried: c",
        "gpt2-default: none of the fields that were flipped changes its logits",
    ]


def test_every_field_is_a_line_of_the_file(tmp_path):
    write_csv({"bert-masked": FLIPS, "gpt2-default": CUT}, tmp_path / "flips.csv")
    with (tmp_path / "flips.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["field"], row["found"], row["why"]) for row in rows] == [
        ("act", "in off_default", ""),
        ("kinds", "changes logits", "it changes nothing beside the others"),
        ("speed", "changes nothing", ""),
        ("legacy", "does not build", "KeyError: 'it'"),
        ("a", "changes nothing", ""),
        ("b", "changes nothing", ""),
        ("c", "not tried", ""),
    ]
    assert (rows[0]["before"], rows[0]["after"], rows[0]["change"]) == ("gelu", "relu", "0.25")


@pytest.mark.parametrize("flips", [FLIPS, CUT])
def test_what_is_written_beside_a_checkpoint_is_read_again(flips):
    assert flips_from(as_json(flips)) == flips
