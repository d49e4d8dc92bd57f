"""A checkpoint's tokenizer, and a few texts by which two tokenizers are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import transformers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.models.checkpoints import Checkpoint

TEXTS: Final[Mapping[str, str]] = {
    "words": "The quick brown fox jumps over the lazy dog.",
    "spaces": " a leading space and  two inside",
    "digits": "3.14159 1,000 20261124",
    "accents": "na\u00efve caf\u00e9 \u00c5ngstr\u00f6m \u4f60\u597d",
    "emoji": "\U0001f642 \U0001f469\u200d\U0001f469\u200d\U0001f467 ok",
    "code": "def f(x):\n\treturn x\n",
    # Words that a synthetic checkpoint's tokenizer knows; to it the others are unknown.
    "synthetic words": "t7 t4 t9 t4",
    "empty": "",
}
"""What tokenizers have been seen to disagree on: spaces, digits, bytes, and what is added."""


def tokenizer_of(checkpoint: Checkpoint) -> Any:
    """Give a checkpoint's tokenizer as `transformers` reads it."""
    return transformers.AutoTokenizer.from_pretrained(
        checkpoint.path, local_files_only=True, trust_remote_code=False
    )


class Reader:
    """Reads texts as a tokenizer of `transformers` does."""

    def __init__(self, tokenizer: Any) -> None:
        """Read by this tokenizer."""
        self._tokenizer = tokenizer

    @property
    def texts(self) -> dict[str, str]:
        """Give the fixed texts, and one that has a special token's text in its midst."""
        special = self._tokenizer.eos_token or self._tokenizer.unk_token
        more = {"a special token": f"before {special} behind"} if special else {}
        return {**TEXTS, **more}

    @property
    def bos(self) -> int | None:
        """Give the id that begins a text; None where there is none."""
        found: int | None = self._tokenizer.bos_token_id
        return found

    @property
    def pad(self) -> int | None:
        """Give the id that texts are padded with; None where there is none."""
        found: int | None = self._tokenizer.pad_token_id
        return found

    @property
    def pads_left(self) -> bool:
        """Say whether texts are padded before their first token."""
        return bool(self._tokenizer.padding_side == "left")

    @property
    def is_lossless(self) -> bool:
        """Say whether every text comes back from its ids: they are its bytes, as they are."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None or backend.normalizer is not None:
            return False
        return type(backend.decoder).__name__ == "ByteLevel"

    def ids(self, text: str, *, whole: bool) -> list[int]:
        """Give a text's ids; of a `whole` text with what the tokenizer adds to every one."""
        return list(map(int, self._tokenizer(text, add_special_tokens=whole)["input_ids"]))

    def text(self, ids: Sequence[int]) -> str:
        """Give the text of ids, with nothing made prettier."""
        return str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def batch(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Give the ids of whole texts, padded to one length, and their attention mask."""
        read = self._tokenizer(list(texts), padding=True)
        return read["input_ids"], read["attention_mask"]
