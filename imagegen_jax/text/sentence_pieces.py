"""T5's tokenizer (Raffel et al. 2020, arXiv 1910.10683), by the library that made it: sentencepiece (arXiv 1808.06226).

A text is normalised and split into the likeliest pieces of a unigram model (Kudo 2018, arXiv 1804.10959), which are
pieces of bytes too where the vocabulary has them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax.core.config.bounds import Natural
from imagegen_jax.core.files.regular import Path
from imagegen_jax.text.tokenizer import Encoded, around, read_all, rows_of, whole_characters

_FILE = "spiece.model"


@dataclasses.dataclass(frozen=True)
class SentencePieces:
    """The tokenizer of T5, of the file that its makers publish: `SentencePieces.read(folder)`.

    Rows are the text, </s>, and <pad> up to the length `context`. Where a text holds the name of a special token, it
    becomes that token; <extra_id_0> and so forth, the places that T5 learnt to fill, are the last of the vocabulary.
    """

    model: bytes = dataclasses.field(repr=False)
    context: int = 512
    extra_ids: Natural = 100  # how many tokens follow those of the file; their numbers go down
    lower: bool = False  # whether texts are put into small letters first, and spaces around them taken off

    @classmethod
    def read(cls, folder: Path, context: int = 512, extra_ids: int = 100, lower: bool = False) -> SentencePieces:
        """Reads spiece.model of a folder.

        Raises FileNotFoundError where it is missing, ImportError without the library, and ValueError for what is no
        such model, or one without T5's padding and end.
        """
        model = read_all(folder, (_FILE,), "T5's tokenizer")[_FILE]
        try:
            processor = _processor(model)
        except RuntimeError as error:
            raise ValueError(f"{folder}/{_FILE} is no model of sentencepiece ({error}): fetch it again") from error
        if min(processor.pad_id(), processor.eos_id()) < 0:
            raise ValueError(f"{folder}/{_FILE} has no token for padding, or none for the end: give that of a T5")
        return cls(model, context, extra_ids, lower)

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens, <extra_id_0> and so forth included. T5's embedding has a few rows more."""
        return int(_processor(self.model).vocab_size()) + self.extra_ids

    def files(self) -> Mapping[str, bytes]:
        """Returns spiece.model as it was read."""
        return {_FILE: self.model}

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Writes each text as a row. Raises ValueError where `context` is less than 2."""
        processor = _processor(self.model)
        rows = (self.tokens_of(text.lower().strip() if self.lower else text) for text in texts)
        return rows_of(rows, self.context, None, processor.eos_id(), processor.pad_id())

    def tokens_of(self, text: str) -> list[int]:
        """Returns all tokens of a text, without the end."""
        tokens: list[int] = []
        for part in around(whole_characters(text), self._special):
            tokens += [part] if isinstance(part, int) else _processor(self.model).encode(part)
        return tokens

    @functools.cached_property
    def _special(self) -> dict[str, int]:
        processor, last = _processor(self.model), self.vocabulary_size - 1
        named = {processor.id_to_piece(at): at for at in (processor.pad_id(), processor.eos_id(), processor.unk_id())}
        return named | {f"<extra_id_{number}>": last - number for number in range(self.extra_ids)}


@functools.lru_cache(maxsize=8)
def _processor(model: bytes) -> Any:
    """Returns the library's reader of a model. Raises ImportError without the library, RuntimeError for no model."""
    try:
        import sentencepiece
    except ImportError:
        raise ImportError("T5's tokenizer needs sentencepiece: pip install 'imagegen_jax[t5]'") from None
    return sentencepiece.SentencePieceProcessor(model_proto=model)
