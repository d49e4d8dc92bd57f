import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cases
from cases.breadth_limitations import LIMITATIONS

ROOT = Path(__file__).parent.parent
FINDINGS = ROOT / "docs" / "findings"
PAGES = sorted(page for page in FINDINGS.glob("*.md") if page.name != "README.md")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
SMALLEST = 1e-4  # what a page calls a difference lies above, what it calls rounding below
SECONDS = 120.0  # measured 7 on two cores, most of it importing; a loaded machine takes longer

# One process for all blocks, since importing the libraries takes most of the time.
RUN_ALL = """
import contextlib, io, json, sys, traceback

blocks, printed = json.load(sys.stdin), {}
for name, block in blocks.items():
    stream = io.StringIO()
    try:
        with contextlib.redirect_stdout(stream):
            exec(compile(block, name, "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc(file=stream)
    printed[name] = stream.getvalue()
print(json.dumps(printed))
"""


def limitations():
    of_cases = [item for case in cases.ALL for item in case.limitations]
    of_breadth = [item for known in LIMITATIONS.values() for item in known]
    assert of_cases
    assert of_breadth
    return of_cases + of_breadth


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def same_up_to_rounding(left, right):
    """Say whether numbers agree within 5 %; below SMALLEST they are rounding, which may vary."""
    pairs = zip(NUMBER.findall(left), NUMBER.findall(right), strict=True)
    return all(abs(float(a) - float(b)) <= max(0.05 * abs(float(b)), SMALLEST) for a, b in pairs)


@pytest.fixture(scope="module")
def printed():
    asked = json.dumps({page.name: blocks(page, "python")[0] for page in PAGES})
    ran = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=asked,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def test_there_are_pages():
    assert PAGES


def test_every_limitation_links_to_a_page():
    known = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {item.link for item in limitations()} <= known


def test_pages_without_a_limitation_say_that_the_matrix_does_not_measure_them():
    linked = {item.link for item in limitations()}
    unmeasured = {page for page in PAGES if "Not in the matrix" in page.read_text()}
    assert unmeasured == {p for p in PAGES if p.relative_to(ROOT).as_posix() not in linked}


def test_the_table_links_to_every_page_and_to_nothing_else():
    links = re.findall(r"^\| \[.+?\]\((.+?)\)", (FINDINGS / "README.md").read_text(), re.MULTILINE)
    assert sorted(links) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_one_reproduction_and_what_it_prints(page):
    assert (len(blocks(page, "python")), len(blocks(page, "text"))) == (1, 1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_reproduction_needs_nothing_of_this_project(page):
    imported = re.findall(r"^\s*(?:from|import) (\w+)", blocks(page, "python")[0], re.MULTILINE)
    assert set(imported) <= {
        "copy",
        "diffusers",
        "einops",
        "nnterp",
        "subprocess",  # replaced, so that the page on an installation installs nothing
        "torch",
        "transformer_lens",
        "transformers",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_reproduction_prints_what_its_page_says(page, printed):
    (said,) = blocks(page, "text")
    found = printed[page.name]
    assert NUMBER.sub("#", found) == NUMBER.sub("#", said)
    assert same_up_to_rounding(found, said)
