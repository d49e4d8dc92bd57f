"""ChatGLM3's authors' module as the reference: what it needs, how it rounds, whose code runs."""

import builtins
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from harness.case import Case, Cell, Prompt
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.checkpoints import checkpoint_of
from harness.models.checkpoints.folder import sha256_of
from harness.models.ports import load_port, load_reference
from harness.models.remote_code import TRUSTED, trust

TOKENS = Prompt.unpadded(((1, 5, 9, 3, 8), (2, 4, 6, 8, 1), (60, 3, 3, 3, 7)), origin="test")
BARE = Plan(prompts=(TOKENS,), shrink_seconds=0.0)


def cell_of(case=None, *, mode="hf_sdpa", dtype="float32"):
    return Cell(case=case or Case(family="chatglm"), loading_mode=mode, dtype=dtype)


def measured(cell):
    return measure_cell(cell, run_id="r", references=References(), plan=BARE)


def logits_of(runner):
    return runner.run(TOKENS, ("logits",))["logits"]


def rounded_once(norm, hidden):
    """Give GLM's norm as ChatGLM rounds it: the gain is multiplied before, not after."""
    variance = hidden.float().pow(2).mean(-1, keepdim=True)
    return (norm.weight * (hidden * torch.rsqrt(variance + norm.variance_epsilon))).to(hidden.dtype)


def test_bfloat16_differs_by_the_norms_order_of_rounding_and_by_nothing_else():
    cell = cell_of(dtype="bfloat16")
    checkpoint = checkpoint_of(cell.case)
    port, reference = load_port(cell, checkpoint), load_reference(cell, checkpoint)
    expected = logits_of(reference)
    assert 0.01 < (logits_of(port) - expected).abs().max() < 0.1
    norms = [each for each in port.model.modules() if type(each).__name__ == "GlmRMSNorm"]
    for norm in norms:
        norm.forward = rounded_once.__get__(norm)
    assert len(norms) == 7
    assert torch.equal(logits_of(port), expected)


def test_without_the_authors_module_the_cell_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **more):
        if name.startswith("diffusers"):
            raise ImportError("No module named 'diffusers'")
        return imported(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    found = measured(cell_of())
    assert found.verdict == "unavailable"
    assert "pip install 'model-port-harness[chatglm]'" in found.row["reason"]


@pytest.fixture
def with_code(tmp_path, monkeypatch):
    """Give a folder that brings the authors' module along, as the hub's does."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", tmp_path / "modules")
    monkeypatch.setenv(TRUSTED, "")
    folder = tmp_path / "withcode"
    shutil.copytree(checkpoint_of(Case(family="chatglm")).path, folder)
    package = Path(find_spec("diffusers").origin).parent
    code = (package / "pipelines" / "kolors" / "text_encoder.py").read_text()
    ours = code.replace("from ...utils import logging", "from transformers.utils import logging")
    assert ours != code
    (folder / "modeling_chatglm.py").write_text(ours)
    config = json.loads((folder / "config.json").read_text())
    names = {
        "AutoConfig": "modeling_chatglm.ChatGLMConfig",
        "AutoModel": "modeling_chatglm.ChatGLMModel",
    }
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": names}))
    return folder


def test_code_that_nobody_trusts_is_not_run(with_code):
    (with_code / "modeling_chatglm.py").write_text("raise SystemExit('it ran')")
    case = Case(family="chatglm", checkpoint=f"folder+code:{with_code}")
    found = measured(cell_of(case))
    assert (found.verdict, found.row["remote_code"]) == ("unavailable", None)
    assert f"--trust-remote-code {case.id}" in found.row["reason"]


def test_trust_in_one_case_is_none_in_another(with_code):
    trust(["chatglm-default@elsewhere"])
    case = Case(family="chatglm", checkpoint=f"folder+code:{with_code}")
    assert measured(cell_of(case)).verdict == "unavailable"


def test_a_checkpoints_code_is_not_run_where_the_case_does_not_ask_for_it(with_code):
    (with_code / "modeling_chatglm.py").write_text("raise SystemExit('it ran')")
    case = Case(family="chatglm", checkpoint=f"folder:{with_code}")
    trust([case.id])
    assert (measured(cell_of(case)).verdict, measured(cell_of(case)).row["remote_code"]) == (
        "pass",
        None,
    )


def test_trusted_code_is_run_and_recorded_by_its_digest(with_code):
    case = Case(family="chatglm", checkpoint=f"folder+code:{with_code}")
    trust([case.id])
    digest = sha256_of(with_code / "modeling_chatglm.py")
    found = measured(cell_of(case))
    assert (found.verdict, found.row["remote_code"]) == ("pass", f"modeling_chatglm.py={digest}")


def test_it_is_the_checkpoints_own_code_that_runs(with_code):
    file = with_code / "modeling_chatglm.py"
    code = file.read_text()
    file.write_text(code.replace("return F.silu(x[0]) * x[1]", "return F.gelu(x[0]) * x[1]"))
    assert file.read_text() != code
    case = Case(family="chatglm", checkpoint=f"folder+code:{with_code}")
    trust([case.id])
    found = measured(cell_of(case, dtype="exact"))
    assert (found.verdict, found.row["first_site"]) == ("fail", "blocks.0.mlp.post")


def test_code_that_would_not_run_is_refused_rather_than_named_in_a_row(with_code):
    case = Case(family="llama", checkpoint=f"folder+code:{with_code}")
    trust([case.id])
    found = measured(cell_of(case))
    assert (found.verdict, found.row["remote_code"]) == ("unavailable", None)
    assert "llama is loaded by transformers' own class" in found.row["reason"]
