"""The example of docs/ports.md, taken from the page: installed, and run in an outside folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness

PAGE = (Path(__file__).parents[1] / "docs/ports.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- example: (\S+) -->\n\n```\w+\n(.*?)```\n", PAGE, re.DOTALL))
CASES = "cases/test_plain_gpt2.py"
PACKAGE = {name: text for name, text in FILES.items() if name != CASES}
COMMAND = Path(sys.executable).with_name("harness")
MOST_LINES = 60
COMPARED = re.search(r"^    harness (run .* --probe none)$", PAGE, re.MULTILINE)[1].split()
PROBED = re.search(r"^    harness (run .* --probe causality\S*)$", PAGE, re.MULTILINE)[1].split()


def write(folder, files):
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the example as its users do, beside the harness, without a network."""
    source = write(tmp_path_factory.mktemp("source"), PACKAGE)
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet")
    command = [*pip, "--no-build-isolation", "--target", target, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def run_outside(tmp_path):
    """Give a function that runs the command in an outside folder: exit code, output, cells."""

    def run(site, arguments):
        outside = write(tmp_path / "outside", {CASES: FILES[CASES]})
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            [COMMAND, *arguments, "--prompts", "0"],
            cwd=outside,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        latest = outside / "reports/runs/latest"
        cells = harness.read_cells(latest) if latest.exists() else None
        return done.returncode, done.stdout + done.stderr, cells

    return run


def test_the_example_has_a_package_and_cases():
    assert list(FILES) == ["pyproject.toml", "plain_gpt2.py", CASES]


def test_the_example_is_short():
    lines = sum(len(text.splitlines()) for text in PACKAGE.values())
    assert 0 < lines <= MOST_LINES


def test_the_example_installed_passes_by_code_of_its_own(installed, run_outside):
    code, said, cells = run_outside(installed, COMPARED)
    assert code == 0, said
    assert dict(zip(cells.cell_id, cells.verdict, strict=True)) == {
        "gpt2-default.plain_gpt2.exact": "pass",
        "gpt2-default.plain_gpt2.float32": "pass",
    }
    assert set(cells.port) == {"plain_gpt2"}
    assert (cells.sites_compared > 0).all()
    assert (cells.sites_passed_through == 0).all()


def test_the_example_keeps_what_it_owes(installed, run_outside):
    code, said, cells = run_outside(installed, PROBED)
    assert code == 0, said
    assert set(cells.verdict) == {"pass"}
    assert set(cells.probe) == set(PROBED[-1].split(","))


def test_a_fault_in_the_example_fails_at_its_site(installed, run_outside, tmp_path):
    faulty = shutil.copytree(installed, tmp_path / "faulty")
    right, wrong = "gelu(hidden, approximate", "gelu(1.000001 * hidden, approximate"
    assert FILES["plain_gpt2.py"].count(right) == 1
    (faulty / "plain_gpt2.py").write_text(FILES["plain_gpt2.py"].replace(right, wrong))
    code, said, cells = run_outside(faulty, [*COMPARED[:-3], "exact", "--probe", "none"])
    assert (code, list(cells.verdict)) == (1, ["fail"]), said
    assert list(cells.first_site) == ["blocks.0.mlp_out"]
    assert "blocks.0.mlp_out: port differs from reference [gpt2-default · plain_gpt2" in said


def test_without_the_package_its_mode_is_unknown(tmp_path, run_outside):
    code, said, _ = run_outside(tmp_path, COMPARED)
    assert code == 2
    assert "unknown mode 'plain_gpt2'" in said
