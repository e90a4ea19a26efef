"""A vocabulary of whole words, made of a data set's own captions: for small sets, whose words are few."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence

from imagegen_jax.core.files.regular import Path
from imagegen_jax.text.tokenizer import Encoded, read_all, rows_of

PADDING, UNKNOWN, START, END = range(4)
_FILE = "words.txt"
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclasses.dataclass(frozen=True)
class Words:
    """A tokenizer by whole words, of `words` in the order of their tokens: `Words.built(captions)`.

    Tokens 0 to 3 are padding, an unknown word, the start and the end of a text; words follow. Signs are words, and
    upper and lower case are one.
    """

    words: tuple[str, ...]
    context: int = 32

    @classmethod
    def built(cls, captions: Iterable[str], size: int = 10_000, context: int = 32) -> Words:
        """Takes the most frequent words of `captions`, at most `size` tokens in all; of equals the first by alphabet.

        Raises ValueError where `size` leaves no room for a word, or captions have none.
        """
        if size <= END + 1:
            raise ValueError(f"size={size}: {END + 1} tokens are no words, so that it must be more than that")
        counts = collections.Counter(word for caption in captions for word in words_of(caption))
        if not counts:
            raise ValueError("captions without a word: give some with words")
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ordered[: size - END - 1]), context)

    @classmethod
    def read(cls, folder: Path, context: int = 32) -> Words:
        """Reads words.txt of a folder, a word a line. Raises FileNotFoundError where it is missing, ValueError where it
        is no text, or has a line twice or one that is not a word.
        """
        content = read_all(folder, (_FILE,), "a vocabulary of words")[_FILE]
        try:
            words = content.decode().splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{folder}/{_FILE} is no text ({error}): take it from the run again") from error
        wrong = [word for word, count in collections.Counter(words).items() if words_of(word) != [word] or count > 1]
        if wrong or not words:
            raise ValueError(f"{folder}/{_FILE} is not a word a line, each once: {wrong[:3] or 'it is empty'}")
        return cls(tuple(words), context)

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens, those that are no words included."""
        return len(self.words) + END + 1

    def files(self) -> Mapping[str, bytes]:
        """Returns words.txt."""
        return {_FILE: "".join(f"{word}\n" for word in self.words).encode()}

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Writes each text as a row. Raises ValueError where `context` is less than 2."""
        rows = ([self._tokens.get(word, UNKNOWN) for word in words_of(text)] for text in texts)
        return rows_of(rows, self.context, START, END, PADDING)

    def unknown(self, text: str) -> tuple[str, ...]:
        """Returns the words of a text that are not in the vocabulary."""
        return tuple(word for word in words_of(text) if word not in self._tokens)

    @functools.cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.words, END + 1)}


def words_of(text: str) -> list[str]:
    """Splits a text into words and signs, in lower case."""
    return _WORD.findall(text.lower())
