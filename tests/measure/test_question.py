import json

import pytest

from harness.case import Case, Cell, Limitation, Prompt
from harness.errors import RunFolderError, SelectionError, Unavailable
from harness.measure import question as question_module
from harness.measure.question import Question, ask, ask_again, cell_of, prompt_of
from harness.models.checkpoints import checkpoint_of
from harness.record import read_sealed, write_sealed

PROMPT = Prompt(tokens=((5, 6), (0, 7)), attention_mask=((1, 1), (0, 1)), origin="a test")
LIMITED = Limitation(outcome="raises", reason="r", link="l", until="pytest>9999", words="w")


def cell(family, mode="hf_sdpa", dtype="exact", *, limitations=()):
    return Cell(case=Case(family=family, limitations=limitations), loading_mode=mode, dtype=dtype)


CELLS = (cell("gpt2"), cell("llama"), cell("gpt2", "bridge", "float32"))


@pytest.fixture(scope="module")
def question():
    return ask(CELLS, drawn=1, seed=7)


def test_a_question_is_read_as_it_was_written(question, tmp_path):
    question.write(tmp_path / "deep" / "question.json")
    again = Question.read(tmp_path / "deep" / "question.json")
    assert (again.cells, again.prompts) == (question.cells, question.prompts)
    assert again.checkpoints == question.checkpoints


def test_a_written_question_is_plain_json(question, tmp_path):
    question.write(tmp_path / "question.json")
    content = json.loads((tmp_path / "question.json").read_text())
    assert content.keys() == {"cells", "checkpoints", "prompts", "absent", "exchange", "seal"}
    assert content["cells"][0]["family"] == "gpt2"


def test_what_is_not_of_the_default_is_read_again(tmp_path):
    case = Case(family="llama", variant="gqa", checkpoint="synthetic:tiny")
    odd = Cell(case=case, loading_mode="bridge_fold_ln", dtype="float16", device="cuda")
    asked = ask_again([odd], {case.id: [PROMPT]})
    asked.write(tmp_path / "question.json")
    again = Question.read(tmp_path / "question.json")
    assert (again.cells, again.prompts) == ((odd,), {case.id: (PROMPT,)})


def test_the_cells_of_a_case_are_asked_together(question):
    assert [str(each) for each in question.cells] == [str(CELLS[0]), str(CELLS[2]), str(CELLS[1])]


def test_each_case_has_its_checkpoint_and_the_bank_and_what_was_drawn(question):
    assert (
        question.checkpoints.keys() == question.prompts.keys() == {"gpt2-default", "llama-default"}
    )
    assert question.checkpoints["gpt2-default"] == checkpoint_of(CELLS[0].case)
    origins = [prompt.origin.partition(":")[0] for prompt in question.prompts["gpt2-default"]]
    assert (set(origins), origins.count("hypothesis")) == ({"bank", "hypothesis"}, 1)


def test_the_same_question_is_asked_twice_with_the_same_prompts(question):
    assert ask(CELLS, drawn=1, seed=7).prompts == question.prompts


def test_another_seed_draws_other_prompts(question):
    assert (
        ask(CELLS[:1], drawn=1, seed=8).prompts["gpt2-default"]
        != (question.prompts["gpt2-default"])
    )


def test_no_prompt_is_asked_twice(question):
    for prompts in question.prompts.values():
        assert len({prompt.prompt_id for prompt in prompts}) == len(prompts)


def test_a_recorded_question_is_asked_again_with_its_prompts():
    again = ask_again(CELLS, {"gpt2-default": [PROMPT]})
    assert [str(each) for each in again.cells] == [str(CELLS[0]), str(CELLS[2]), str(CELLS[1])]
    assert again.prompts["gpt2-default"] == (PROMPT,)
    # Where probes alone ran, none were kept: a case that is left out would be missed by nobody.
    assert {prompt.origin.partition(":")[0] for prompt in again.prompts["llama-default"]} == {
        "bank"
    }


def test_a_recorded_case_without_a_checkpoint_here_is_asked_and_says_why(monkeypatch):
    monkeypatch.setattr(question_module, "checkpoint_or_why_not", lambda _: "it is not to be had")
    again = ask_again(CELLS[:1], {})
    assert (len(again.cells), again.absent) == (1, {"gpt2-default": "it is not to be had"})


def test_no_cell_is_no_question():
    with pytest.raises(SelectionError, match="selects no cell"):
        ask([], drawn=0, seed=0)
    with pytest.raises(SelectionError, match="selects no cell"):
        ask_again([], {"bloom-default": [PROMPT]})


def test_a_stored_row_gives_its_cell_without_limitations():
    row = {
        "family": "gpt2",
        "variant": "default",
        "checkpoint": "synthetic",
        "loading_mode": "bridge",
        "dtype": "exact",
        "device": "cpu",
        "probe": None,
        "verdict": "known",
    }
    assert cell_of(row) == cell("gpt2", "bridge")
    assert cell_of(row) != cell("gpt2", "bridge", limitations=(LIMITED,))
    assert cell_of({**row, "probe": "causality"}).probe == "causality"


def test_a_stored_row_gives_its_prompt():
    row = {"tokens": [[5, 6], [0, 7]], "attention_mask": [[1, 1], [0, 1]], "origin": "a test"}
    assert prompt_of(row) == PROMPT
    assert prompt_of(row).prompt_id == PROMPT.prompt_id


def test_a_case_without_a_checkpoint_is_asked_and_says_why(tmp_path):
    blt = Case(family="blt", checkpoint="shrunk")  # its default config builds no text model
    cells = (cell("gpt2"), Cell(case=blt, loading_mode="hf_sdpa", dtype="exact"))
    found = ask(cells, drawn=0, seed=0)
    assert [each.case.id for each in found.cells] == ["gpt2-default", "blt-default@shrunk"]
    assert found.absent.keys() == {"blt-default@shrunk"}
    found.write(tmp_path / "question.json")
    again = Question.read(tmp_path / "question.json")
    assert again.absent == found.absent
    with pytest.raises(Unavailable, match="no small config of it builds and runs"):
        again.checkpoint_of(blt)
    assert again.checkpoint_of(cells[0].case) == found.checkpoints["gpt2-default"]


def test_a_checkpoint_that_another_release_made_is_taken_as_it_is():
    made = checkpoint_of(Case(family="llama"))
    new, lost = (Case(family=name, checkpoint="shrunk") for name in ("tomorrow", "never"))
    cells = [Cell(case=case, loading_mode="hf_sdpa", dtype="exact") for case in (new, lost)]
    found = ask(cells, drawn=0, seed=0, made={new.id: made, lost.id: "it does not build"})
    assert found.checkpoints == {new.id: made}
    assert found.absent == {lost.id: "it does not build"}


def test_a_question_of_which_a_bit_turned_is_refused(question, tmp_path):
    file = tmp_path / "question.json"
    question.write(file)
    content = file.read_bytes()
    for bit in range(0, len(content) * 8, 997):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        with pytest.raises(RunFolderError, match=r"question\.json is no question .*delete it"):
            Question.read(file)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cells", [{}]), ("prompts", {"a": [7]}), ("checkpoints", 7), ("absent", 7), ("exchange", 7)],
)
def test_a_question_with_an_entry_that_is_none_is_refused(name, value, question, tmp_path):
    file = tmp_path / "question.json"
    question.write(file)
    write_sealed(file, read_sealed(file) | {name: value})
    with pytest.raises(RunFolderError, match=r"question\.json is no question"):
        Question.read(file)
