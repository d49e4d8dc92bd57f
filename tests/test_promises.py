"""docs/promises.md: each promise names tests, and each of these is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/promises.md"
ROW = re.compile(r"^\| (?P<promise>[^|]+) \| (?P<tests>[^|]+) \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def promises_in(text: str) -> dict[str, list[tuple[str, str]]]:
    """Give the tests of each promise, as file and name."""
    rows = {row["promise"]: NAMED.findall(row["tests"]) for row in ROW.finditer(text)}
    return {promise: tests for promise, tests in rows.items() if promise != "promise"}


def lost_in(text: str) -> list[str]:
    """Give what is wrong with a page: a promise without a test, or a test that is not there."""
    lost = []
    for promise, tests in promises_in(text).items():
        if not tests:
            lost.append(promise)
        for file, name in tests:
            path = ROOT / file
            tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([])
            if name not in {each.name for each in ast.walk(tree) if hasattr(each, "name")}:
                lost.append(f"{file}::{name}")
    return lost


def test_each_promise_has_tests_that_are_there():
    text = PAGE.read_text(encoding="utf-8")
    assert len(promises_in(text)) > 30
    assert lost_in(text) == []


def test_no_row_of_a_table_is_passed_over():
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    tables = sum(line.startswith("|---") for line in lines)
    assert len(lines) - 2 * tables == len(promises_in(PAGE.read_text("utf-8")))


@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ("| It holds | `tests/test_promises.py::test_of_nothing` |", ["test_of_nothing"]),
        ("| It holds | `tests/test_of_nothing.py::test_x` |", ["tests/test_of_nothing.py"]),
        ("| It holds | by hope |", ["It holds"]),
    ],
)
def test_a_promise_without_its_test_is_found(row, lost):
    found = lost_in(row)
    assert len(found) == 1
    assert lost[0] in found[0]


def test_a_promise_with_its_test_is_silent():
    name = test_a_promise_with_its_test_is_silent.__name__
    assert lost_in(f"| It holds | `tests/test_promises.py::{name}` |") == []
