"""A port cannot change the environment that is measured."""

import subprocess
import sys

import pytest

from harness.case import Case, Cell
from harness.models import ports
from harness.models.checkpoints import checkpoint_of
from harness.models.ports.installing import nothing_installed

INSTALLS = [
    [sys.executable, "-m", "pip", "install", "nothing-of-this-name"],
    ["uv", "pip", "install", "nothing-of-this-name", "-q"],
    "pip install nothing-of-this-name",
]


@pytest.mark.parametrize("command", INSTALLS)
def test_a_port_that_installs_a_package_is_refused(command) -> None:
    with nothing_installed(), pytest.raises(PermissionError, match="may not install"):
        subprocess.run(command, shell=isinstance(command, str), check=False)


def test_other_commands_run_and_installing_is_free_again_afterwards() -> None:
    with nothing_installed():
        assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--help"], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_no_port_of_any_kind_is_let_while_it_is_loaded(monkeypatch):
    def installs(*_, **__):
        subprocess.run(INSTALLS[0], check=False)

    monkeypatch.setattr(ports.plugged, "load", installs)
    monkeypatch.setattr(ports.huggingface, "load", installs)
    for mode in ("hf_sdpa", "of_another_package"):
        cell = Cell(case=Case(family="gpt2"), loading_mode=mode, dtype="exact")
        with pytest.raises(PermissionError, match="may not install"):
            ports.load_port(cell, checkpoint_of(cell.case))
