import sys
from importlib.metadata import EntryPoint

import pytest
import torch
import transformers

from harness.case import Case, Cell, Prompt
from harness.errors import PortError, Refused, Unavailable
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.checkpoints import checkpoint_of
from harness.models.ports import load_port, plugged
from harness.models.ports.asking import Asking
from harness.plugged import GROUP, PluggedPort

CELL = Cell(case=Case(family="gpt2"), loading_mode="mine", dtype="float32")
ONE = Prompt.unpadded(((1, 2, 3),), origin="x")
PADDED = Prompt(tokens=((1, 2, 3),), attention_mask=((0, 1, 1),), origin="x")
SITES = ("logits", "blocks.1.attn.pattern", "blocks.0.resid_pre")


class Distribution:
    name, version = "mine-port", "1.0"


class Fixed:
    """A port that gives what it is told to, whatever it is asked."""

    def __init__(self, sites=SITES, given=None):
        self.sites, self.given, self.asked = sites, given, []

    def run(self, tokens, attention_mask, sites):
        self.asked.append(attention_mask)
        found = {
            "logits": torch.zeros(*tokens.shape, 67),
            "blocks.1.attn.pattern": torch.zeros(len(tokens), 5, *tokens.shape[1:] * 2),
            "blocks.0.resid_pre": torch.zeros(*tokens.shape, 20),
        }
        return {site: found[site] for site in sites} | (self.given or {})


def brought(value="mine:load"):
    entry = EntryPoint("mine", value, GROUP)
    vars(entry).update(dist=Distribution)
    return PluggedPort(name="mine", entry=entry)


def runner_of(port):
    return plugged.PluggedRunner(port, brought=brought(), device="cpu", encodes=False)


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Give a function that loads a port by the source of its module."""

    def load(source):
        (tmp_path / "mine_port.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "mine_port", raising=False)
        port = brought("mine_port:load")
        monkeypatch.setattr(plugged, "plugged_ports", lambda: {"mine": port})
        return load_port(CELL, checkpoint_of(CELL.case))

    return load


def test_what_a_port_gives_stays_though_it_writes_to_the_same_memory_again():
    port = Fixed(sites=("logits",), given={"logits": torch.zeros(1, 3, 67)})
    runner = runner_of(port)
    first = runner.run(ONE, ("logits",))["logits"]
    port.given["logits"] += 1
    assert not first.any()
    assert runner.run(ONE, ("logits",))["logits"].all()


def test_a_port_that_no_package_brings_makes_its_cell_unavailable():
    result = measure_cell(CELL, run_id="x", references=References(), plan=Plan())
    assert result.verdict == "unavailable"
    assert "no package in this environment brings the port 'mine'" in result.row["reason"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError"),
        ("", "has no attribute 'load'"),
        ("def load(folder): ...", "cannot be called so"),
        ("load = 3", "cannot be called so"),
        ("def load(folder, *, family, dtype, device): ...", "NoneType without sites and run"),
    ],
)
def test_a_broken_entry_point_tells_its_package_and_what_to_do(source, told, load):
    with pytest.raises(PortError, match=told) as raised:
        load(source)
    assert str(raised.value).startswith("mine-port 1.0")
    assert "next: " in str(raised.value)


def test_a_port_that_refuses_or_is_not_to_be_had_says_so_itself(load):
    head = "from harness.errors import Refused, Unavailable\n"
    with pytest.raises(Refused, match="no gpt2"):
        load(f"{head}def load(folder, *, family, **_): raise Refused(f'no {{family}}')")
    with pytest.raises(Unavailable, match="install it"):
        load(f"{head}raise Unavailable('install it')")


def test_a_port_is_given_folder_family_dtype_and_device(load):
    runner = load(
        "from types import SimpleNamespace\n"
        "def load(folder, **given):\n"
        "    assert (folder / 'config.json').is_file()\n"
        "    return SimpleNamespace(sites=['logits'], run=None, given=given)"
    )
    assert runner.port.given == {"family": "gpt2", "dtype": torch.float32, "device": "cpu"}


@pytest.mark.parametrize(
    ("sites", "told"),
    [
        (("embed",), "no 'logits'"),
        ("logits", "sites='logits'"),
        (None, "sites=None"),
        (("logits", "blocks.0.hook_resid_pre"), "unknown site 'blocks.0.hook_resid_pre'"),
    ],
)
def test_sites_that_are_none_of_ours_are_told(sites, told):
    with pytest.raises(PortError, match=told):
        runner_of(Fixed(sites))


def test_sites_come_in_the_order_of_the_forward_pass():
    assert runner_of(Fixed()).sites == SITES[::-1]
    assert tuple(runner_of(Fixed()).run(ONE, SITES[::-1])) == SITES[::-1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([[0.0]], "a list at logits"),
        (torch.zeros(1, 3, 67, dtype=torch.int64), "a tensor of torch.int64 at logits"),
        (torch.zeros(3, 67), r"\[3, 67\] at logits for 1 × 3 tokens"),
        (torch.zeros(1, 2, 67), r"\[1, 2, 67\] at logits"),
    ],
)
def test_what_is_no_tensor_of_a_sites_layout_is_told(given, told):
    with pytest.raises(PortError, match=told) as raised:
        runner_of(Fixed(given={"logits": given})).run(ONE, SITES)
    assert "mine-port 1.0" in str(raised.value)


def test_an_answer_that_is_no_mapping_is_told():
    port = Fixed()
    port.run = lambda tokens, attention_mask, sites: [tokens]  # noqa: ARG005
    with pytest.raises(PortError, match="run gave a list"):
        runner_of(port).run(ONE, SITES)


def test_a_mask_is_given_where_something_is_padded_or_where_it_is_asked_for():
    port = Fixed()
    for prompt, asking in ((ONE, Asking()), (PADDED, Asking()), (ONE, Asking(mask=True))):
        runner_of(port).run(prompt, SITES, asking)
    given = [None if mask is None else mask.tolist() for mask in port.asked]
    assert given == [None, [[0, 1, 1]], [[1, 1, 1]]]


@pytest.mark.parametrize(
    ("asking", "told"),
    [
        (Asking(positions=True), "position ids"),
        (Asking(cache=False), "a cache"),
        (Asking(outputs=("attentions",)), "more outputs"),
        (Asking(edits={"logits": torch.abs}, gradients=True), "writing to a site and gradients"),
    ],
)
def test_more_than_a_plain_run_is_refused(asking, told):
    with pytest.raises(Refused, match=f"mine is a plugged port.* no word for {told}"):
        runner_of(Fixed()).run(ONE, SITES, asking)


def test_what_the_interface_has_no_word_for_is_refused():
    runner = runner_of(Fixed())
    for ask in (
        lambda: runner.decode(ONE, [1, 2], SITES),
        lambda: runner.run_with_cache(ONE, SITES),
        lambda: runner.to_tokens(["a"]),
        lambda: runner.begins_with_bos,
    ):
        with pytest.raises(Refused, match="mine is a plugged port"):
            ask()


def test_a_port_that_runs_its_own_code_passes_nothing_through():
    runner = runner_of(Fixed())
    runner.run(ONE, SITES)
    assert runner.passed_through() == frozenset()


def test_a_port_in_which_modules_of_transformers_run_passes_everything_through():
    norm = transformers.models.llama.modeling_llama.LlamaRMSNorm(20)

    class Borrowing(Fixed):
        def run(self, tokens, attention_mask, sites):
            norm(torch.zeros(20))
            return super().run(tokens, attention_mask, sites)

    runner = runner_of(Borrowing())
    assert runner.passed_through() == frozenset()
    runner.run(ONE, SITES)
    assert runner.passed_through() == frozenset(SITES)


@pytest.mark.parametrize("probe", ["cached_decoding", "hook_semantics", "tokens"])
def test_a_probe_that_asks_for_more_than_a_run_is_unavailable_with_its_reason(probe):
    cell = Cell(case=CELL.case, loading_mode="mine", dtype="float32", probe=probe)
    plan = Plan(drawn=0, shrink_seconds=0.0)
    result = measure_cell(
        cell, run_id="x", references=References(), plan=plan, load=lambda *_: runner_of(Fixed())
    )
    assert result.verdict == "unavailable", result.row["reason"]
    assert "mine is a plugged port, whose interface has no word for" in result.row["reason"]
