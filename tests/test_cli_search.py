import sys

import pytest
from packaging.version import Version

from harness import cli
from harness.searching import bisecting


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Give a function that calls the command, where nothing can be built: exit code and words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bisecting, "releases_of", lambda *_, **__: (Version("1.0"), Version("2.0")))
    for room in ("measuring.environment_for", "measuring.lock_for"):
        monkeypatch.setattr(f"harness.versions.{room}", None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, capsys.readouterr().err

    return run


BISECT = ("bisect", "--package", "port")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*BISECT, "--good", "1.0", "--bad", "1.0"), "both 1.0"),
        ((*BISECT, "--good", "1.0", "--bad", "3.0"), "port==3.0 is no release"),
        ((*BISECT, "--good", "$(reboot)", "--bad", "2.0"), "is not a version"),
        (("bisect", "--package", "a;b", "--good", "1.0", "--bad", "2.0"), "not the name"),
        ((*BISECT, "--good", "1.0", "--bad", "2.0", "--family", "gpt3"), "unknown family 'gpt3'"),
        ((*BISECT, "--good", "1.0", "--bad", "2.0", "--with", "-r x"), "is not a requirement"),
        (("blame", "--baseline", "x @ file:///", "--candidate", "torch==2"), "not a requirement"),
        (("blame", "--baseline", "", "--candidate", "torch==2"), "names no package"),
        (("sweep", "--package", "torch"), "go together"),
        (("sweep", "--package", "torch", "--versions", ""), "names nothing"),
        (("sweep", "--spec", "./folder"), "is not a requirement"),
        (("sweep", "--mode", "hookd"), "unknown mode 'hookd'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(call, arguments, words):
    code, said = call(*arguments)
    assert code == 2
    assert words in said
    assert "Traceback" not in said
