import json
import sys

import pytest
from packaging.version import Version

from harness import cli
from harness.errors import RequirementError
from harness.versions import newer
from harness.versions.newer import gates_for, newest, pins_of

PINS = """\
# pins
torch==2.13.0
transformers==5.23.0  # newest
transformer-lens==4.3.0
nnterp==1.3.0
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "constraints.txt").write_text(PINS)
    return tmp_path / "constraints.txt"


@pytest.fixture
def index(monkeypatch):
    """Give what an index has, by package; to be added to."""
    has = {"torch": ["2.13.0"], "transformers": ["5.9.0", "5.23.0"], "transformer-lens": ["4.3.0"]}
    monkeypatch.setattr(newer, "releases_of", lambda name: tuple(map(Version, has[name])))
    return has


def test_pins_are_read_of_the_packages_that_are_watched(file):
    found = {name: str(version) for name, version in pins_of(file).items()}
    assert found == {"transformers": "5.23.0", "transformer-lens": "4.3.0", "torch": "2.13.0"}


@pytest.mark.parametrize(
    ("text", "told"),
    [("nnterp==1\n", "pins none of"), ("torch>=2\n", "pins none of"), ("a b\n", "no file of pins")],
)
def test_a_file_that_pins_none_of_them_is_refused(file, text, told):
    file.write_text(text)
    with pytest.raises(RequirementError, match=told):
        pins_of(file)


def test_no_file_of_pins_is_refused(tmp_path):
    with pytest.raises(RequirementError, match="is no file of pins"):
        pins_of(tmp_path / "nothing.txt")


@pytest.mark.usefixtures("index")
def test_where_nothing_is_newer_there_is_no_gate(file):
    assert gates_for(pins_of(file), newest(pins_of(file))) == []


def test_a_newer_release_is_a_gate_in_which_it_alone_differs(file, index):
    index["transformers"] += ["5.23.1", "5.24.0"]
    (gate,) = gates_for(pins_of(file), newest(pins_of(file)))
    rest = "transformer-lens==4.3.0 torch==2.13.0"
    assert gate == {
        "baseline": f"transformers==5.23.0 {rest}",
        "candidate": f"transformers==5.24.0 {rest}",
    }


def test_two_newer_packages_are_a_gate_each_and_one_together(file, index):
    index["transformers"].append("5.24.0")
    index["torch"].append("2.14.0")
    gates = gates_for(pins_of(file), newest(pins_of(file)))
    assert [each["candidate"] for each in gates] == [
        "transformers==5.24.0 transformer-lens==4.3.0 torch==2.13.0",
        "transformers==5.23.0 transformer-lens==4.3.0 torch==2.14.0",
        "transformers==5.24.0 transformer-lens==4.3.0 torch==2.14.0",
    ]


def test_a_build_of_the_pinned_release_is_not_newer(file, index):
    index["torch"].append("2.13.0+cpu")
    assert newest(pins_of(file)) == {}


def test_the_command_gives_a_matrix_as_json_and_commands_in_words(file, index, monkeypatch, capfd):
    index["torch"].append("2.14.0")
    for form in ((), ("--json",)):
        monkeypatch.setattr(sys, "argv", ["harness", "newer", "--pins", str(file), *form])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        out = capfd.readouterr().out
        if form:
            assert [each["candidate"].split()[-1] for each in json.loads(out)] == ["torch==2.14.0"]
        else:
            assert "torch 2.13.0: 2.14.0 is newer\n" in out
            assert "transformers 5.23.0: newest\n" in out
            assert 'next: harness gate --baseline "transformers==5.23.0' in out
