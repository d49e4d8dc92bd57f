import csv

from rich.console import Console

from harness.coverage import Field
from harness.report.fields import rest, summary, table, write_csv


def field(name, effect="logits", **changes):
    return Field(family="llama", name=name, effect=effect, **changes)


FOUND = [
    field("hidden_act", exercised_by="far"),
    field("rms_norm_eps"),
    field("head_dim", "parameters", reason="the class refuses it"),
    field("initializer_range", "none"),
]


def printed(found):
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table(found))
    return captured.get()


def test_the_table_has_each_field_that_matters_where_it_is_exercised_or_not():
    lines = printed(FOUND).splitlines()
    assert any("llama" in line and "1 of 3" in line for line in lines)
    assert any("far" in line and "hidden_act" in line for line in lines)
    assert any("not exercised" in line and "rms_norm_eps, head_dim" in line for line in lines)


def test_a_field_that_changes_nothing_is_not_in_the_table():
    assert "initializer_range" not in printed(FOUND)


def test_the_rest_comes_with_its_reasons_and_a_missing_one_is_loud():
    assert rest(FOUND) == [
        "llama: rms_norm_eps (other logits in exact mode): NO REASON GIVEN",
        "llama: head_dim (other names or shapes of parameters): the class refuses it",
    ]


def test_the_summary_counts():
    assert summary(FOUND, variants=2) == (
        "1 of 3 fields that change numbers are exercised (33.3%), over 1 families and 2 variants; "
        "1 further fields change nothing"
    )


def test_the_file_has_every_field(tmp_path):
    write_csv(FOUND, tmp_path / "fields.csv")
    with (tmp_path / "fields.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [each.name for each in FOUND]
    assert rows[2]["reason"] == "the class refuses it"
