"""A secret is in no file, page, log or message of ours, and in no child that does not need it."""

import base64
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hand_rows import plain_row

from harness.case import Case, Cell
from harness.errors import EnvironmentUnavailable
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.checkpoints import hub
from harness.page.writing import data_of, write_page
from harness.provenance import gather
from harness.record import read_run, write_json, write_part
from harness.surroundings import HUB, INDEX, child_environment, without_secrets
from harness.versions import installer
from harness.versions.interpreters import find_interpreter
from harness.versions.measuring import current_environment
from harness.versions.resolving import resolve
from harness.versions.running import run_in

SECRET = "hf_KnownSecretOfThisTest"
DATA = re.compile(rb'id="data">([^<]+)<')
HARNESS = Path(sys.executable).with_name("harness")
CASES = """
import pytest
from harness import Case

@pytest.mark.harness(Case(family="gpt2"))
def test_port_agrees_with_reference(cell, check_cell):
    check_cell(cell)
"""
NAMED = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    "GITHUB_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "DB_PASSWORD",
    "CLIENT_SECRET",
    "TWINE_PASSWORD",
    "GOOGLE_APPLICATION_CREDENTIALS",
)


def places_of(secret: str, folder: Path) -> list[str]:
    """Give each file in a folder that holds a secret, packed or not."""
    found = []
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            if file.suffix == ".parquet":
                content += str(pq.read_table(file).to_pylist()).encode()
                content += str(pq.read_schema(file).metadata).encode()
            for data in DATA.findall(content):
                content += gzip.decompress(base64.b64decode(data))
            if secret.encode() in content:
                found.append(str(file.relative_to(folder)))
    return sorted(found)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Measure with a token set, make a page, and measure in a worker; give folder and output."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "cases").mkdir()
    (folder / "cases/test_ports.py").write_text(CASES)
    seen = {**os.environ, **dict.fromkeys(NAMED, SECRET)}
    seen |= {"PIP_INDEX_URL": f"https://me:{SECRET}@localhost:9/simple"}
    cell = ["--family", "gpt2", "--variant", "default", "--dtype", "exact", "--probe", "none"]
    asked = [*cell, "--prompts", "0", "--mode", "hf_sdpa"]
    said = ""
    for command in (
        ["run", *asked],
        ["report", "latest", "--html", "page.html", "--markdown", "page.md"],
        ["measure", "current", *asked, "--out", "reports/runs/worker"],
        ["env", "list"],
    ):
        done = subprocess.run(
            [HARNESS, *command], cwd=folder, env=seen, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout + done.stderr
    return folder, said


def test_a_token_is_in_no_file_of_a_run_and_nowhere_in_what_it_said(measured):
    folder, said = measured
    assert (folder / "page.html").is_file()
    assert (folder / "reports/runs/worker/worker.log").is_file()
    assert list((folder / "reports/runs/worker/cells").glob("*.parquet"))
    assert places_of(SECRET, folder) == []
    assert SECRET not in said


def test_a_token_that_is_written_is_found_packed_or_not(measured, tmp_path):
    run = tmp_path / "a"
    shutil.copytree(measured[0] / "reports/runs/worker", run)
    write_json(run / "run.json", {**read_run(run), "argv": [SECRET]})
    write_part(run, "cells", "planted", [plain_row("cells", reason=SECRET)])
    write_page(data_of(run), tmp_path / "page.html")
    assert places_of(SECRET, tmp_path) == ["a/cells/planted.parquet", "a/run.json", "page.html"]


@pytest.fixture
def secrets(monkeypatch):
    for name in NAMED:
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("PIP_INDEX_URL", f"https://me:{SECRET}@host/simple")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")


@pytest.mark.usefixtures("secrets")
def test_a_worker_sees_no_secret(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import json, os\nprint(json.dumps(dict(os.environ)))\n")
    done = run_in(current_environment(), script, [], cwd=tmp_path)
    seen = json.loads(done.stdout)
    assert SECRET not in done.stdout
    assert not {*NAMED, "PIP_INDEX_URL"} & seen.keys()
    assert {"PATH", "HF_HUB_OFFLINE"} <= seen.keys()


@pytest.mark.usefixtures("secrets")
def test_a_child_gets_what_its_work_needs_and_no_more():
    assert {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} == {*NAMED} & child_environment(keep=HUB).keys()
    index = child_environment(keep=INDEX)
    assert SECRET in index["PIP_INDEX_URL"]
    assert not {*NAMED} & index.keys()


def test_what_is_no_secret_is_handed_on(monkeypatch):
    kept = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "KEYBOARD": "us"}
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    assert kept.items() <= child_environment().items()


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (f"token {SECRET} was refused", "token … was refused"),
        (f"https://me:{SECRET}@host/simple: 401", "https://…@host/simple: 401"),
        ("s3://key:other@bucket/rows", "s3://…@bucket/rows"),
        ("https://host/a@b is 1 page", "https://host/a@b is 1 page"),
    ],
)
def test_a_secret_is_struck_from_words(words, told):
    assert without_secrets(words) == told


@pytest.mark.usefixtures("secrets")
def test_a_port_that_says_a_token_does_not_bring_it_into_rows():
    def load(*_):
        raise RuntimeError(f"401 for {os.environ['HF_TOKEN']}")

    cell = Cell(case=Case(family="gpt2"), loading_mode="hf_sdpa", dtype="exact")
    result = measure_cell(cell, run_id="r", references=References(), plan=Plan(), load=load)
    assert "401 for …" in result.row["reason"]
    assert SECRET not in str(result)


@pytest.mark.usefixtures("secrets")
def test_arguments_are_kept_without_what_a_url_has_before_its_at(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--rows=s3://key:other@bucket/rows"])
    assert gather()["argv"] == ["--rows=s3://…@bucket/rows"]


@pytest.mark.usefixtures("secrets")
def test_what_uv_says_of_an_index_has_no_password(tmp_path, monkeypatch):
    url = f"http://me:{SECRET}@127.0.0.1:9/simple"
    settings = installer.PipSettings(index_url=url, timeout="1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    (tmp_path / "asked.in").write_text("nothing-of-this-name==1\n")
    done = installer.run_uv(["pip", "compile", "asked.in", "-v"], cwd=tmp_path, settings=settings)
    assert done.returncode != 0
    assert "127.0.0.1" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.usefixtures("secrets")
def test_a_lock_has_no_index_and_no_password():
    settings = installer.PipSettings(index_url=f"http://me:{SECRET}@127.0.0.1:9/simple")
    lock = resolve((), find_interpreter(None), settings, prefer="")  # asks no index for nothing
    assert SECRET not in lock
    assert "127.0.0.1" not in lock


@pytest.mark.usefixtures("secrets")
def test_what_the_hub_says_has_no_token():
    said = hub._unreached("hub:x", OSError(f"401 for {SECRET}"))
    assert "401 for …" in said


def test_pips_own_words_have_no_password(monkeypatch):
    def fail(*_, **__):
        return subprocess.CompletedProcess([], 1, "", "cannot read https://me:pass@host/")

    monkeypatch.setattr(installer.subprocess, "run", fail)
    installer.pip_settings.cache_clear()
    with pytest.raises(EnvironmentUnavailable, match=r"https://…@host"):
        installer.pip_settings()
    installer.pip_settings.cache_clear()
