"""A port cannot change the environment that is measured."""

import subprocess
import sys

import pytest

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
