"""WordPiece as BERT has it (Devlin et al. 2019, arXiv 1810.04805; Wu et al. 2016, section 4.1), lower case, no accents.

A text is cleaned and split at spaces and signs. Each word then becomes the longest piece of the vocabulary that begins
it, the longest that goes on from there, marked "##", and so forth; a word for which there are none is unknown.
"""

from __future__ import annotations

import dataclasses
import functools
import unicodedata
from collections.abc import Mapping, Sequence

from imagegen_jax.core.files.regular import Path
from imagegen_jax.text.characters import SPACES, lower
from imagegen_jax.text.tokenizer import Encoded, around, read_all, rows_of, whole_characters

PADDING, UNKNOWN, START, END, MASK = _SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_FILE = "vocab.txt"
_LONGEST = 100  # letters of a word that is not unknown
_IDEOGRAPHS = (  # words by themselves
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),  # BERT's own table begins this one at 2B820; here it is as in transformers
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@dataclasses.dataclass(frozen=True, eq=False)
class WordPieces:
    """The tokenizer of BERT, of the file that its makers publish: `WordPieces.read(folder)`.

    Rows are [CLS], the text, [SEP], and [PAD] up to the length `context`. Where a text holds the name of a special
    token, it becomes that token.
    """

    vocabulary: Mapping[str, int]
    contents: Mapping[str, bytes]
    context: int = 512

    @classmethod
    def read(cls, folder: Path, context: int = 512) -> WordPieces:
        """Reads vocab.txt of a folder, a token a line.

        Raises FileNotFoundError where it is missing, and ValueError where it is no text or lacks BERT's special tokens.
        """
        contents = read_all(folder, (_FILE,), "BERT's tokenizer")
        try:
            lines = contents[_FILE].decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{folder}/{_FILE} is no text ({error}): fetch it again") from error
        vocabulary = {token: at for at, token in enumerate(lines)}
        missing = [name for name in _SPECIAL if name not in vocabulary]
        if missing:
            raise ValueError(f"{folder}/{_FILE} has no {', '.join(missing)}: give that of a BERT")
        return cls(vocabulary, contents, context)

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens."""
        return max(self.vocabulary.values()) + 1

    def files(self) -> Mapping[str, bytes]:
        """Returns vocab.txt as it was read."""
        return self.contents

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Writes each text as a row. Raises ValueError where `context` is less than 2."""
        start, end, padding = (self.vocabulary[name] for name in (START, END, PADDING))
        return rows_of((self.tokens_of(text) for text in texts), self.context, start, end, padding)

    def tokens_of(self, text: str) -> list[int]:
        """Returns all tokens of a text, without start and end."""
        tokens: list[int] = []
        for part in around(whole_characters(text), {name: self.vocabulary[name] for name in _SPECIAL}):
            if isinstance(part, int):
                tokens.append(part)
            else:
                tokens += [token for word in words_of(part) for token in self._pieces(word)]
        return tokens

    def _pieces(self, word: str) -> list[int]:
        unknown = [self.vocabulary[UNKNOWN]]
        if len(word) > _LONGEST:
            return unknown
        pieces, at = [], 0
        while at < len(word):
            mark = "##" if at else ""
            end = next((end for end in range(len(word), at, -1) if mark + word[at:end] in self.vocabulary), None)
            if end is None:
                return unknown
            pieces.append(self.vocabulary[mark + word[at:end]])
            at = end
        return pieces


def words_of(text: str) -> list[str]:
    """Cleans a text, and splits it into words and signs."""
    text = "".join(_cleaned(character) for character in text)
    text = "".join(lower(character) for character in unicodedata.normalize("NFD", text) if not _is_accent(character))
    return "".join(f" {character} " if _is_sign(character) else character for character in text).split(" ")


@functools.lru_cache(maxsize=1 << 16)
def _cleaned(character: str) -> str:
    """Returns what stands for a character: nothing for a control character, a word for an ideograph."""
    if character in SPACES and (character in "\t\n\r" or unicodedata.category(character) != "Cc"):
        return " "
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs"):
        return ""
    return f" {character} " if any(low <= ord(character) <= high for low, high in _IDEOGRAPHS) else character


@functools.lru_cache(maxsize=1 << 16)
def _is_accent(character: str) -> bool:
    return unicodedata.category(character) == "Mn"


@functools.lru_cache(maxsize=1 << 16)
def _is_sign(character: str) -> bool:
    """Tells whether a character is a word by itself: punctuation, and of ASCII all that is no letter or digit."""
    return (character.isascii() and character.isprintable() and not character.isalnum() and character != " ") or (
        unicodedata.category(character)[0] == "P"
    )
