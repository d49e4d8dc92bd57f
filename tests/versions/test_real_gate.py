"""One gate between two real releases: OPT's attention scale, moved before the product in 4.52."""

import json
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("harness")
SPECS = ("--baseline", "transformers==4.51.3", "--candidate", "transformers==4.52.1")
CELLS = (
    "--family",
    "opt",
    "--variant",
    "default",
    "--mode",
    "hf_eager",
    "--dtype",
    "exact,float32",
    "--probe",
    "none",
)
FIRST = "blocks.0.attn.attn_scores"


def gated(out):
    """Give how the gate ended, and what gate.json says."""
    command = [COMMAND, "gate", *SPECS, *CELLS, "--prompts", "0", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out.parent)
    assert (out / "gate.json").is_file(), done.stdout + done.stderr
    return done, json.loads((out / "gate.json").read_text())


def test_the_release_that_scales_otherwise_has_moved_the_reference_at_the_scores(tmp_path):
    done, found = gated(tmp_path / "gate")
    assert (done.returncode, found["overall"]) == (1, "worse")
    assert [cell["dtype"] for cell in found["cells"]] == ["exact", "float32"]
    for cell in found["cells"]:
        assert (cell["verdict"], cell["first_site"]) == ("reference_moved", FIRST)
        assert (cell["nature"], cell["attribution"]) == ("meaning", "reference")
        assert cell["moved_by"] == ["transformers 4.51.3 → 4.52.1"]
        assert cell["prompt"]["tokens"]
        assert cell["drift"] > 1e-3
