"""What lies in the scratch folder of a chaos run: its cases, and the fault inside one cell.

The variable `CHAOS` holds the fault, the cell and the moment, as JSON; without it there is none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "CHAOS"
MOMENTS = ("fixture", "forward", "writing", "after")

CASES = """
import pytest
from harness import Case

@pytest.mark.harness(Case(family="gpt2"), Case(family="llama"))
def test_port_agrees(cell, check_cell):
    check_cell(cell)
"""

CONFTEST = """
import ctypes, json, os, random, signal, sys, time

import pytest

PLANTED = json.loads(os.environ.get("CHAOS", "{}"))


def strike(fault):
    if fault == "segfault":
        ctypes.string_at(0)
    elif fault == "out_of_memory":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "exit":
        os._exit(0)
    elif fault == "hang":
        while True:
            time.sleep(3600)
    elif fault == "hang_in_c":
        while True:  # a signal ends C's sleep
            ctypes.PyDLL(None).sleep(3600)  # and the interpreter is not given back meanwhile
    elif fault == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "raise":
        raise ValueError("planted")
    elif fault == "fork":
        os.fork()
    elif fault == "garbage":
        os.write(1, os.urandom(100_000))
        os.write(2, os.urandom(10_000))
        sys.stdout.write("\\x00" * 1000)


@pytest.fixture
def check_cell(request, check_cell, cell):
    moment = PLANTED.get("moment") if PLANTED.get("cell") == cell.id else None
    if moment == "fixture":
        strike(PLANTED["fault"])
    handles = []
    patch = request.getfixturevalue("monkeypatch")
    if moment == "forward":
        from torch.nn.modules import module

        once = []

        def hook(*_):
            if not once:
                once.append(True)
                strike(PLANTED["fault"])

        handles.append(module.register_module_forward_hook(hook))
    if moment == "writing":
        from harness.measure import writing

        write = writing.write_part

        def write_then_strike(run, kind, name, rows, **more):
            write(run, kind, name, rows, **more)
            if kind == "prompts":
                strike(PLANTED["fault"])

        patch.setattr(writing, "write_part", write_then_strike)

    def check(cell):
        check_cell(cell)
        if moment == "after":
            strike(PLANTED["fault"])

    yield check
    for handle in handles:
        handle.remove()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A fault inside a cell."""

    fault: str
    cell: str
    moment: str

    def told(self) -> dict[str, str]:
        """Give the environment that plants it."""
        return {VARIABLE: json.dumps(asdict(self))}


def write_folder(folder: Path) -> Path:
    """Write cases and conftest into a new folder."""
    folder.mkdir(parents=True)
    (folder / "test_cases.py").write_text(CASES)
    (folder / "conftest.py").write_text(CONFTEST)
    return folder
