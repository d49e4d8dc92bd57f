import pytest

from harness.case import Case, Cell, Prompt
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.models.checkpoints import checkpoint_of
from harness.models.ports import load_port
from harness.models.texts import TEXTS, Reader, tokenizer_of

PROMPTS = (Prompt.unpadded(((5, 6, 7),), origin="a test"),)
PLAN = Plan(prompts=PROMPTS, shrink_seconds=0)
CASE = Case(family="gpt2")


@pytest.fixture(scope="module")
def references():
    return References()


def measured(references, mode, load=load_port):
    cell = Cell(case=CASE, loading_mode=mode, dtype="exact", probe="tokens")
    return measure_cell(cell, run_id="a-run", references=references, plan=PLAN, load=load)


def failing(result):
    return {row["check"] for row in result.deltas if row["verdict"] == "fail"}


def texts_of(result):
    return {row["origin"]: row for row in result.prompts if row["origin"].startswith("text:")}


class Planted:
    """A bridge whose ids of texts pass through a change."""

    def __init__(self, runner, change) -> None:
        self.runner, self.change = runner, change

    def __getattr__(self, name):
        return getattr(self.runner, name)

    def to_tokens(self, texts, *, bos=None):
        return [self.change(ids, bos) for ids in self.runner.to_tokens(texts, bos=bos)]


def planted(change):
    return lambda cell, checkpoint: Planted(load_port(cell, checkpoint), change)


@pytest.mark.parametrize("mode", ["hf_eager", "bridge"])
def test_a_tokenizer_that_keeps_its_word_passes(mode, references):
    result = measured(references, mode)
    assert (result.verdict, result.row["first_site"]) == ("pass", None)


def test_the_ids_of_every_text_are_kept_in_the_run(references):
    texts = texts_of(measured(references, "hf_eager"))
    named = {f"text:{name}" for name, text in TEXTS.items() if text}
    assert set(texts) == named | {"text:a special token", "text:a padded batch"}
    assert texts["text:synthetic words"]["tokens"] == [[7, 4, 9, 4]]
    assert texts["text:synthetic words"]["attention_mask"] == [[1, 1, 1, 1]]


def test_of_a_port_the_ids_are_kept_that_it_reads_without_a_word(references):
    texts = texts_of(measured(references, "bridge"))
    assert texts["text:synthetic words"]["tokens"] == [[1, 7, 4, 9, 4]]


def test_the_mask_of_a_padded_batch_is_kept(references):
    batch = texts_of(measured(references, "hf_eager"))["text:a padded batch"]
    for ids, mask in zip(batch["tokens"], batch["attention_mask"], strict=True):
        assert [bit == 0 for bit in mask] == [token == 3 for token in ids]


def test_bos_twice_fails_where_it_is_asked_for(references):
    twice = planted(lambda ids, bos: ids if bos is False else [ids[0], *ids])
    result = measured(references, "bridge", twice)
    assert (result.verdict, result.row["first_site"]) == ("fail", "tokens")
    assert failing(result) == {"to_tokens with BOS", "to_tokens without a word"}


def test_another_id_fails_wherever_it_stands(references):
    other = planted(lambda ids, _: [*ids[:-1], ids[-1] + 1])
    assert "to_tokens without BOS" in failing(measured(references, "bridge", other))


def test_padding_on_the_other_side_fails(references, monkeypatch):
    right = Reader.batch

    def left(reader, texts):
        ids, mask = right(reader, texts)
        turned = [
            row[sum(shown) :] + row[: sum(shown)] for row, shown in zip(ids, mask, strict=True)
        ]
        return turned, [row[::-1] for row in mask]

    monkeypatch.setattr(Reader, "batch", left)
    assert failing(measured(references, "hf_eager")) == {"padding", "the mask of padding"}


def test_ids_that_do_not_come_back_fail(references, monkeypatch):
    monkeypatch.setattr(Reader, "text", lambda _, ids: "t8 " * len(ids))
    result = measured(references, "hf_eager")
    assert failing(result) == {"what is decoded encodes to the same ids"}


def test_a_tokenizer_with_a_word_for_everything_unknown_is_not_lossless():
    reader = Reader(tokenizer_of(checkpoint_of(CASE)))
    assert not reader.is_lossless
    assert (reader.bos, reader.pad, reader.pads_left) == (1, 3, False)
