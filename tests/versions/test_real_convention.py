"""A gate between two real releases: transformers 5.16.1 does not know `tie_last_hidden_states`."""

import json
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("harness")
SPECS = ("--baseline", "transformers==5.19.0", "--candidate", "transformers==5.16.1")
CELLS = (
    *("--family", "llama", "--variant", "default", "--variant", "untied_states"),
    *("--mode", "hf_eager", "--dtype", "exact", "--probe", "hidden_to_logits"),
)


def test_a_release_that_records_another_last_hidden_state_is_a_verdict(tmp_path):
    out = tmp_path / "gate"
    command = [COMMAND, "gate", *SPECS, *CELLS, "--prompts", "0", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (out / "gate.json").is_file(), done.stdout + done.stderr
    cells = {cell["variant"]: cell for cell in json.loads((out / "gate.json").read_text())["cells"]}
    assert (done.returncode, cells["default"]["verdict"]) == (1, "unchanged")
    moved = cells["untied_states"]
    assert (moved["verdict"], moved["first_site"]) == ("broke", "logits")
    assert moved["moved_by"] == ["transformers 5.19.0 → 5.16.1"]
