"""Tokenizers as settings of captioned data: made of the captions or of a user's files, and read again from a run."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Annotated, Protocol

from imagegen_jax.core.arrays.texts import Tokenizer
from imagegen_jax.core.config.bounds import Count, Natural
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.files.regular import Path
from imagegen_jax.text.byte_pairs import END, BytePairs
from imagegen_jax.text.joined import JoinedRows
from imagegen_jax.text.sentence_pieces import SentencePieces
from imagegen_jax.text.word_pieces import WordPieces
from imagegen_jax.text.words import Words


class TokenizerSettings(Protocol):
    """Says which tokenizer a data set's captions are written by: a frozen dataclass of plain settings."""

    def open(self, captions: Iterable[str]) -> Tokenizer:
        """Makes the tokenizer; `captions` are all of the data's, for one that is made of them."""
        ...

    def read(self, folder: Path) -> Tokenizer:
        """Reads the tokenizer from the files that it named (`Tokenizer.files`), in a folder of a run."""
        ...


AnyTokenizer = Annotated[
    TokenizerSettings,
    Choices("imagegen_jax.text.settings:WordVocabulary, CLIPTokenizer, BERTTokenizer, T5Tokenizer, JoinedTokenizers"),
]


@dataclasses.dataclass(frozen=True)
class WordVocabulary:
    """The most frequent words of the captions, at most `size` tokens in all, in rows of `context`."""

    size: Count = 10_000
    context: Count = 32

    def open(self, captions: Iterable[str]) -> Words:
        """Takes the words of the captions. Raises ValueError where they have none, or `size` is too small."""
        return Words.built(captions, self.size, self.context)

    def read(self, folder: Path) -> Words:
        """Reads words.txt. Raises what `Words.read` raises."""
        return Words.read(folder, self.context)


@dataclasses.dataclass(frozen=True)
class CLIPTokenizer:
    """CLIP's byte pairs, of the vocab.json and merges.txt of a folder; see `BytePairs` for the other settings."""

    folder: str
    context: Count = 77
    padding: str = END
    entities: bool = False
    ftfy: bool = False

    def open(self, captions: Iterable[str]) -> BytePairs:
        """Reads the files of `folder`. Raises what `BytePairs.read` raises."""
        return self.read(self.folder)

    def read(self, folder: Path) -> BytePairs:
        """Reads the files of a folder. Raises what `BytePairs.read` raises."""
        return BytePairs.read(folder, self.context, self.padding, self.entities, self.ftfy)


@dataclasses.dataclass(frozen=True)
class BERTTokenizer:
    """BERT's pieces of words, of the vocab.txt of a folder."""

    folder: str
    context: Count = 128

    def open(self, captions: Iterable[str]) -> WordPieces:
        """Reads the file of `folder`. Raises what `WordPieces.read` raises."""
        return self.read(self.folder)

    def read(self, folder: Path) -> WordPieces:
        """Reads the file of a folder. Raises what `WordPieces.read` raises."""
        return WordPieces.read(folder, self.context)


@dataclasses.dataclass(frozen=True)
class T5Tokenizer:
    """T5's pieces, of the spiece.model of a folder; `pip install 'imagegen_jax[t5]'` brings their library."""

    folder: str
    context: Count = 120  # PixArt's; Stable Diffusion 3 has 256
    extra_ids: Natural = 100
    lower: bool = False  # whether texts are put into small letters, and spaces around them taken off, as in PixArt

    def open(self, captions: Iterable[str]) -> SentencePieces:
        """Reads the file of `folder`. Raises what `SentencePieces.read` raises."""
        return self.read(self.folder)

    def read(self, folder: Path) -> SentencePieces:
        """Reads the file of a folder. Raises what `SentencePieces.read` raises."""
        return SentencePieces.read(folder, self.context, self.extra_ids, self.lower)


@dataclasses.dataclass(frozen=True)
class JoinedTokenizers:
    """The rows of several tokenizers, one after another; a run keeps the files of each in a folder of its number."""

    parts: tuple[AnyTokenizer, ...] = ()

    def open(self, captions: Iterable[str]) -> JoinedRows:
        """Opens each. Raises what that raises."""
        kept = tuple(captions)
        return JoinedRows(tuple(part.open(kept) for part in self.parts))

    def read(self, folder: Path) -> JoinedRows:
        """Reads each from its own folder. Raises what that raises."""
        return JoinedRows(tuple(part.read(pathlib.Path(folder) / str(i)) for i, part in enumerate(self.parts)))
