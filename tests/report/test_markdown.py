import pytest

from harness.report.markdown import link, quoted, table, without_folders


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no file /tmp/cache/models/config.json", "no file …/config.json"),
        ("FileNotFoundError('/home/me/x/weights')", "FileNotFoundError('…/weights')"),
        ('File "/usr/lib/python3/site-packages/torch/nn.py", line 3', 'File "…/nn.py", line 3'),
        ("folder:/models/a", "folder:…/a"),
        ("file:///home/me/a", "…/a"),
        ("at //server/share/a", "at …/a"),
        (r"C:\Users\me\a.py says", "…/a.py says"),
    ],
)
def test_folders_of_a_machine_are_left_out(said, told):
    assert without_folders(said) == told


@pytest.mark.parametrize(
    "said",
    [
        "see https://github.com/a/b/issues/1 and http://x.org/y/z",
        "harness/models/ports/bridge.py",
        "hidden and/or attention, 3 / 4",
        "../a/b",
    ],
)
def test_what_is_no_folder_of_a_machine_stays(said):
    assert without_folders(said) == said


def test_words_are_quoted_on_one_line_and_cannot_end_their_quotes():
    assert quoted("a `b`\n  <c> *d*") == "`a 'b' <c> *d*`"


def test_folders_are_left_out_of_quoted_words():
    assert quoted("no /home/me/x/y") == "`no …/y`"


@pytest.mark.parametrize(("length", "cut"), [(300, False), (301, True)])
def test_long_words_are_cut_and_it_is_seen(length, cut):
    assert quoted("x" * length).endswith(" …`") == cut


def test_a_bar_does_not_end_a_column():
    assert table(("a", "b"), [("x|y", "z")]) == ["| a | b |", "|---|---|", "| x\\|y | z |"]


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("docs", "findings/x.md"),
        ("", "docs/findings/x.md"),
        (".", "docs/findings/x.md"),
        ("docs/pages", "../findings/x.md"),
    ],
)
def test_a_link_leads_from_the_page_to_the_other(place, target):
    assert link("why", "docs/findings/x.md", place=place) == f"[why]({target})"


def test_an_address_is_linked_as_it_is():
    assert link("why", "https://x.org/1", place=None) == "[why](https://x.org/1)"


def test_a_page_outside_of_the_repository_names_the_path():
    assert link("why", "docs/findings/x.md", place=None) == "why (`docs/findings/x.md`)"
