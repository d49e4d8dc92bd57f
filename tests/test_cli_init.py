"""A repository of a user: written by `harness init`, and green by pytest as it stands."""

import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.record import read_cells
from harness.scaffold import planned, write

ROOT = Path(__file__).parents[1]
HARNESS = (sys.executable, "-c", "from harness.cli import main; main()")


def called(folder, *command):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_empty_folder_becomes_a_repository_in_which_pytest_is_green(tmp_path):
    done = called(tmp_path, *HARNESS, "init")
    assert (done.returncode, "next: pytest" in done.stdout) == (0, True), done.stderr
    tested = called(tmp_path, sys.executable, "-m", "pytest", "--mode=hf_sdpa,bridge_compat")
    assert tested.returncode == 0, tested.stdout
    assert "6 passed" in tested.stdout
    cells = read_cells(tmp_path / "reports" / "runs" / "latest")
    assert set(cells.verdict) == {"pass"}
    assert (cells.sites_compared > 0).all()


def test_what_is_there_is_listed_and_nothing_is_written(tmp_path):
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "__init__.py").write_text("mine")
    (tmp_path / "model-ports.txt").write_text("mine too")
    before = content(tmp_path)
    done = called(tmp_path, *HARNESS, "init")
    assert done.returncode == 2
    assert "found:   cases/__init__.py, model-ports.txt\n" in done.stderr
    assert "harness init --force" in done.stderr
    assert content(tmp_path) == before


def test_force_replaces_what_is_there_and_leaves_all_else(tmp_path):
    write(tmp_path, force=False)
    (tmp_path / "cases" / "my_models.py").write_text("mine")
    (tmp_path / "cases" / "others.py").write_text("mine")
    write(tmp_path, force=True)
    found = content(tmp_path)
    assert found.pop("cases/others.py") == "mine"
    assert found == {each.path: each.text for each in planned()}


def test_a_file_where_a_folder_is_needed_is_a_sentence(tmp_path):
    (tmp_path / "cases").write_text("mine")
    with pytest.raises(UsageError, match="cases cannot be written"):
        write(tmp_path, force=False)


def test_the_pins_are_the_releases_that_are_installed(tmp_path):
    write(tmp_path / "deep" / "repo", force=False)
    pins = (tmp_path / "deep" / "repo" / "model-ports.txt").read_text().splitlines()
    for name in ("model-port-harness", "transformers", "transformer-lens", "torch"):
        assert f"{name}=={version(name).partition('+')[0]}" in pins


def test_the_wheel_holds_every_template(tmp_path):
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ".")
    done = called(ROOT, *map(str, build))
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if "/templates/" in name}
    there = {f"harness/templates/{path.name}" for path in (ROOT / "harness/templates").iterdir()}
    assert held == there != set()
