"""The workflows, read by actionlint: actions pinned by commit, least rights, no pasted input."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted(
    (*(ROOT / ".github/workflows").glob("*.yml"), *(ROOT / "harness/templates").glob("*.yml"))
)
ACTIONLINT = Path(sys.executable).with_name("actionlint")
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")


def lint(*files):
    """Give what actionlint says of files; nothing where all is well."""
    assert ACTIONLINT.is_file(), "no actionlint; next: pip install -e '.[dev]'"
    command = [str(ACTIONLINT), "-no-color", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_there_are_workflows_for_pushes_nights_and_bumps():
    assert {file.name for file in WORKFLOWS} >= {"ci.yml", "nightly.yml", "upgrade-gate.yml"}


def test_actionlint_has_nothing_to_say():
    assert lint(*WORKFLOWS) == ""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("runs-on: ubuntu-latest", "runs-on: ubuntu-oldest", "ubuntu-oldest"),
        ("needs: shard", "needs: shards", "shards"),
        ("matrix.shard", "matrix.share", "share"),
        ("timeout-minutes: 120", "timeout-minuts: 120", "timeout-minuts"),
    ],
)
def test_a_planted_fault_is_named(before, after, said, tmp_path):
    file = shutil.copy(ROOT / ".github/workflows/nightly.yml", tmp_path)
    text = Path(file).read_text(encoding="utf-8")
    assert before in text
    Path(file).write_text(text.replace(before, after), encoding="utf-8")
    assert said in lint(file)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_actions_are_pinned_and_rights_are_to_read(file):
    assert too_much_in(file.read_text(encoding="utf-8")) == []


def too_much_in(text):
    """Give what a workflow may do beyond reading, and what it runs that may change, in words."""
    workflow = yaml.safe_load(text)
    jobs = workflow["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    actions = [step for step in steps if "uses" in step]
    assert actions
    rights = workflow.get("permissions")
    found = [] if rights == {"contents": "read"} else [f"permissions: {rights}"]
    found += [f"{name}: permissions" for name, job in jobs.items() if "permissions" in job]
    found += [step["uses"] for step in actions if not PINNED.fullmatch(step["uses"])]
    found += [
        "credentials are kept"
        for step in actions
        if step["uses"].startswith("actions/checkout@")
        and (step.get("with") or {}).get("persist-credentials") is not False
    ]
    return found


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("permissions:\n", "permissions:\n  packages: write\n", "'packages': 'write'"),
        ("    timeout-", "    permissions:\n      contents: write\n    timeout-", ": permissions"),
        ("uses: actions/checkout@", "uses:  actions/checkout@v", "actions/checkout@v"),
        ("persist-credentials: false", "persist-credentials: true", "credentials are kept"),
    ],
)
def test_a_right_too_many_is_named(before, after, said):
    text = (ROOT / ".github/workflows/nightly.yml").read_text(encoding="utf-8")
    assert before in text
    assert any(said in found for found in too_much_in(text.replace(before, after, 1)))


def pasted(text):
    """Give the scripts of a workflow into which words of a person are pasted."""
    scripts = re.findall(r"run: (?:[|>]-?\n((?:\s{10,}.*\n)+)|(.*)\n)", text)
    assert scripts
    return [script for pair in scripts for script in pair if "${{ inputs" in script]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_people_write_is_never_pasted_into_a_script(file):
    assert pasted(file.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "script",
    ["run: gate ${{ inputs.a }}\n", "run: |\n          x\n          gate ${{ inputs.a }}\n"],
)
def test_pasted_words_are_found(script):
    assert len(pasted(f"      - {script}")) == 1


def test_hub_models_are_pinned_to_full_commits():
    file = ROOT / ".github/hub/models.txt"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"\w+ [\w./-]+ [0-9a-f]{40}", line) for line in lines)
