"""What CI installs: each file by its hash, all that is needed, and nothing of any one machine."""

import re
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / ".github/requirements.txt").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENTRY = re.compile(r"([a-z0-9][a-z0-9-]*)==([\w.+!]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")
UNHASHED = "torch"


def faults_in(lock):
    """Give what is wrong with a lock, in words."""
    head = "".join(line for line in lock.splitlines(keepends=True) if line.startswith("#"))
    body = "".join(line for line in lock.splitlines(keepends=True) if not line.startswith("#"))
    faults = [f"no hash: {line}" for line in ENTRY.sub("", body).splitlines()]
    faults += [f"a place: {word}" for word in re.findall(r"\S*(?://|file:|@)\S*", head + body)]
    versions = {name: version for name, version, _ in ENTRY.findall(body)}
    for requirement in asked():
        name = canonicalize_name(requirement.name)
        found = versions.get(name)
        if name == UNHASHED:
            faults += ["torch has a hash"] if found else []
        elif found is None or not requirement.specifier.contains(found, prereleases=True):
            faults.append(f"{requirement}: locked is {found}; next: .github/lock.sh")
    return faults


def asked():
    """Give all that pyproject.toml asks for with the extra dev, and what constraints.txt pins."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"]]
    waiting = ["dev"]
    while waiting:
        for line in extras[waiting.pop()]:
            found = Requirement(line)
            if found.name == PROJECT["name"]:
                waiting += sorted(found.extras)
            else:
                lines.append(line)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return map(Requirement, [*lines, *(pin for pin in pins if not pin.startswith("#"))])


def test_each_package_has_a_hash_and_all_that_is_asked_for_is_there():
    assert len(ENTRY.findall(LOCK)) > 100
    assert faults_in(LOCK) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("pytest==", "pytest-other==", "pytest>=8.3: locked is None"),
        ("transformers==5.", "transformers==4.", "transformers>=5.9: locked is 4."),
        ("numpy==", "--index-url https://host/simple\nnumpy==", "a place: https://host/simple"),
        ("numpy==", "numpy @ file:///somewhere/numpy.whl\nnumpy==", "a place: file:///somewhere"),
        ("numpy==", "rogue==1.0\nnumpy==", "no hash: rogue==1.0"),
    ],
)
def test_a_planted_fault_is_named(before, after, said):
    planted = LOCK.replace(f"\n{before}", f"\n{after}", 1)
    assert planted != LOCK
    assert any(said in fault for fault in faults_in(planted))


def test_every_job_that_runs_the_harness_installs_by_the_lock():
    for file in sorted((ROOT / ".github/workflows").glob("*.yml")):
        jobs = file.read_text(encoding="utf-8").split("actions/setup-python")[1:]
        assert jobs
        for job in jobs:
            assert unlocked_in(job) == []


def unlocked_in(job):
    """Give what a job installs beside the lock; it may fetch the audit, which looks at that."""
    found = re.findall(r"pip3? install.*|uv pip.*|uvx? .*|pipx .*", job)
    found = [line for line in found if not line.startswith("pipx run pip-audit==")]
    runs = re.search(r"make |\.venv/bin/", job)
    return found + (["no install.sh"] if runs and ".github/install.sh" not in job else [])


@pytest.mark.parametrize(
    "planted",
    [
        "- run: make test",
        "- run: .github/install.sh\n- run: .venv/bin/python -m pip install anything",
        "- run: .github/install.sh\n- run: pipx run anything",
    ],
)
def test_what_a_job_installs_beside_the_lock_is_named(planted):
    assert unlocked_in(planted)


def test_the_lock_is_what_the_installer_takes_and_nothing_else_but_torch_and_this():
    script = (ROOT / ".github/install.sh").read_text(encoding="utf-8")
    assert {"hatchling", "editables"} <= {name for name, *_ in ENTRY.findall(LOCK)}
    lines = [line for line in script.splitlines() if line.startswith("pip ")]
    assert "--require-hashes --requirement .github/requirements.txt" in lines[0]
    assert lines[1] == "pip --constraint constraints.txt torch"
    assert "--no-deps --no-build-isolation --editable ." in lines[2]
    assert len(lines) == 3
