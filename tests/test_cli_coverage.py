import sys

import pytest

from harness import cli
from harness.coverage import Field, Flip, Flips
from harness.measure import experiments

EXERCISED = Field(family="gpt2", name="n_embd", effect="parameters", exercised_by="default")
OPEN = Field(family="gpt2", name="rms", effect="logits", shown_by="default: 1 → 2")


@pytest.fixture
def call(monkeypatch, capsys):
    """Give a function that calls the command with what the experiments found: code and words."""

    def run(found, *arguments):
        monkeypatch.setattr(experiments, "coverage_of", lambda *_, **__: found)
        monkeypatch.setattr(sys, "argv", ["harness", "coverage", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return left.value.code, said.out + said.err

    return run


@pytest.fixture(autouse=True)
def no_reasons(monkeypatch):
    """Take the reasons of real families away, which speak of fields that are not here."""
    from dataclasses import replace

    from harness.models.families import FAMILIES

    monkeypatch.setitem(FAMILIES, "gpt2", replace(FAMILIES["gpt2"], unexercised={}))


def test_whole_coverage_is_exit_code_0(call):
    code, said = call([EXERCISED], "--family", "gpt2")
    assert code == 0
    assert "1 of 1 fields" in said


def test_a_field_without_a_reason_is_exit_code_1_though_the_share_is_enough(call):
    code, said = call([EXERCISED, OPEN], "--family", "gpt2", "--at-least", "0.5")
    assert code == 1
    assert "✗ gpt2: rms changes" in said


def test_a_share_below_the_bound_is_exit_code_1(call):
    reasoned = Field(family="gpt2", name="rms", effect="logits", reason="so")
    code, said = call([EXERCISED, reasoned], "--family", "gpt2")
    assert code == 1
    assert "50.0% of the fields are exercised, allowed: 95.0%" in said


def test_an_unknown_family_is_exit_code_2(call):
    code, said = call([], "--family", "gpt3")
    assert code == 2
    assert "unknown family 'gpt3'; did you mean" in said


def test_a_field_that_no_family_has_is_exit_code_2(call):
    code, said = call([], "--family", "gpt2", "--field", "hidden_at")
    assert code == 2
    assert "no field hidden_at in gpt2" in said


FLIPS = Flips(
    changing=(Flip(name="act", before="gelu", after="relu", change=0.25),),
    idle=("speed",),
    failing={},
    untried=(),
    joined=("act",),
    apart={},
)


@pytest.fixture
def flip(call, monkeypatch):
    """Give a function that asks for breadth, and for what the experiment finds by variant."""
    from harness.errors import Unavailable
    from harness.models.checkpoints import shrunk

    def run(found, *arguments):
        def flips_of(_, variant):
            if variant not in found:
                raise Unavailable("it does not become small")
            return found[variant]

        monkeypatch.setattr(shrunk, "flips_of", flips_of)
        return call([], "--profile", "breadth", *arguments)

    return run


def test_breadth_flips_the_fields_of_each_architecture(flip, tmp_path):
    file = tmp_path / "flips.csv"
    code, said = flip({"default": FLIPS, "masked": FLIPS}, "--family", "bert", "--out", str(file))
    assert code == 0
    assert "bert-default" in said
    assert "bert-masked" in said
    assert "all 2" in said
    assert len(file.read_text().splitlines()) == 5


def test_an_architecture_without_a_small_config_is_named(flip):
    code, said = flip({"default": FLIPS}, "--family", "bert")
    assert code == 0
    assert "bert-masked: it does not become small" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--family", "bert"), "it does not become small"),
        (("--family", "berd"), "unknown family 'berd'; did you mean"),
        (("--field", "act"), "--field asks one of the fields of a family"),
        (("--profile", "wide"), "unknown profile 'wide'"),
    ],
)
def test_what_breadth_cannot_be_asked_is_exit_code_2(flip, arguments, words):
    code, said = flip({}, *arguments)
    assert code == 2
    assert words in " ".join(said.split())
