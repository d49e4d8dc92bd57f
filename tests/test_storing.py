import errno
import os
import subprocess
import sys

import pytest

from harness import cli
from harness.record import write_json, write_part
from harness.storing import cannot_write, is_of_storage
from tests.hand_rows import plain_row

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_with_what_to_do():
    told = cannot_write("reports", FULL, then="--resume it").splitlines()
    assert told[:2] == ["reports cannot be written", "  found:   No space left on device"]
    assert told[-1] == "  next:    make room on its disk, then --resume it"


def test_a_file_that_is_not_there_is_no_fault_of_the_disk():
    assert is_of_storage(FULL)
    assert not is_of_storage(FileNotFoundError(errno.ENOENT, "No such file"))


@pytest.mark.parametrize("what", ["part", "json"])
def test_what_is_half_written_when_the_disk_is_full_goes(what, tmp_path, monkeypatch):
    def fill(*_, **__):
        raise FULL

    if what == "part":
        monkeypatch.setattr("harness.record.writing.pq.ParquetWriter.write_table", fill)
        with pytest.raises(OSError, match="No space"):
            write_part(tmp_path, "cells", "a", [plain_row("cells")])
    else:
        monkeypatch.setattr("pathlib.Path.replace", fill)
        with pytest.raises(OSError, match="No space"):
            write_json(tmp_path / "cells" / "a.json", {})
    assert not list((tmp_path / "cells").iterdir())


def test_a_command_whose_disk_is_full_exits_with_2_and_says_so(monkeypatch, capsys):
    def fill():
        raise FULL

    monkeypatch.setattr(cli, "app", fill)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert "what was asked for cannot be written" in capsys.readouterr().err


def test_a_fault_of_the_program_is_not_taken_for_a_full_disk(monkeypatch):
    def fail():
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(FileNotFoundError):
        cli.main()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such limit here")
def test_a_part_that_a_limit_cuts_short_is_not_there(tmp_path):
    script = """
import resource, signal, sys
from pathlib import Path
from tests.hand_rows import plain_row
from harness.record import write_part
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
try:
    write_part(Path(sys.argv[1]), "cells", "a", [plain_row("cells")])
except OSError as error:
    sys.exit(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == errno.EFBIG
    assert not list((tmp_path / "cells").iterdir())
