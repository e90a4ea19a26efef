"""Texts as arrays: what a tokenizer is, captioned data, and prompts as the conditions that images are drawn by."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int32

from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.config.bounds import Count, Natural
from imagegen_jax.core.files.regular import whole

NEGATIVE = "negative_"  # what the names of the conditions of a negative prompt begin with
_SHOWN = 60  # letters of a text that a message shows


class Encoded(NamedTuple):
    """Texts as a tokenizer writes them."""

    tokens: Int32[np.ndarray, "n length"]  # 0 to below the vocabulary's size
    mask: Bool[np.ndarray, "n length"]  # False where a token only fills the row up
    cut: Bool[np.ndarray, " n"]  # the texts that were longer than the row, whose ends are lost


class Tokenizer(Protocol):
    """Turns texts into integers. A frozen dataclass: the same text always gives the same row."""

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens: they are integers from 0 to below it."""
        ...

    @property
    def context(self) -> int:
        """The length of a row, start and end included."""
        ...

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Writes each text as a row; what does not fit is cut off, and `Encoded.cut` says where."""
        ...

    def files(self) -> Mapping[str, bytes]:
        """Returns the files, by name, that a run folder needs in order to read the tokenizer again."""
        ...


@runtime_checkable
class SideBySide(Protocol):
    """A tokenizer whose row is those of several tokenizers, one after another."""

    @property
    def parts(self) -> tuple[Tokenizer, ...]:
        """These tokenizers."""
        ...

    @property
    def longest(self) -> int:
        """The length of the longest of them."""
        ...


@dataclasses.dataclass(frozen=True)
class EmptyText:
    """The row that a tokenizer writes for a text without a word: `EmptyText.of(tokenizer)`."""

    tokens: tuple[Natural, ...]
    length: Count  # of them that are no padding
    seen: tuple[bool, ...] = ()  # which these are; (): the first ones

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> EmptyText:
        """Writes the row by a tokenizer."""
        found = tokenizer.encode([""])
        length, mask = int(found.mask[0].sum()), tuple(found.mask[0].tolist())
        return cls(tuple(found.tokens[0].tolist()), length, () if all(mask[:length]) else mask)

    @property
    def mask(self) -> tuple[bool, ...]:
        """False where a token is padding."""
        return self.seen or tuple(i < self.length for i in range(len(self.tokens)))


@runtime_checkable
class KnowsWords(Protocol):
    """A tokenizer that leaves out words that it does not know."""

    def unknown(self, text: str) -> tuple[str, ...]:
        """Returns the words of a text that are not in the vocabulary."""
        ...


@runtime_checkable
class Captioned(Protocol):
    """Open data whose rows may have texts, which a tokenizer writes into batches as "text" and "text_mask"."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer; None where batches have no texts."""
        ...

    def texts(self, step: int, n: int, seed: int = 0) -> tuple[str, ...]:
        """Returns the captions of batch `step`, as `batch` has them; () where there are none."""
        ...


@runtime_checkable
class KeepsTokenizer(Protocol):
    """A source whose tokenizer can be read from a run's folder, where the data are not at hand."""

    def kept_tokenizer(self, folder: pathlib.Path) -> Tokenizer:
        """Reads the tokenizer from the files that `Tokenizer.files` named. Raises FileNotFoundError without them."""
        ...


def tokenizer_of(data: Any) -> Tokenizer | None:
    """Returns the tokenizer of open data; None where their batches have no texts."""
    return data.tokenizer if isinstance(data, Captioned) else None


def texts_of(data: Any, n: int, seed: int = 0) -> tuple[str, ...]:
    """Returns the captions of the data's first `n` rows in the order of `seed`; () where batches have no texts."""
    return data.texts(0, n, seed) if tokenizer_of(data) is not None else ()


def keep_tokenizer(folder: pathlib.Path, tokenizer: Tokenizer | None) -> None:
    """Writes the files of a tokenizer, if there is one, into a folder of a run."""
    for name, content in tokenizer.files().items() if tokenizer else ():
        with whole(folder / name) as partial:
            partial.write_bytes(content)


def check_text(model: Any, data: Any) -> None:
    """Raises ValueError where a model that reads text is given data without, or of a tokenizer that does not fit."""
    encoder, tokenizer = reads_text(model), tokenizer_of(data)
    if encoder is None:
        return
    if tokenizer is None:
        raise ValueError(
            "model.text reads captions, but the data have none: use captioned data, such as Captioned(Shapes()) "
            "(--data captioned:shapes), or set model.text to None"
        )
    if tokenizer.context != encoder.context:
        raise ValueError(
            f"data.tokenizer.context={tokenizer.context}, model.text.context={encoder.context}: make them the same"
        )
    if tokenizer.vocabulary_size > encoder.vocabulary_size:
        raise ValueError(
            f"the data's tokenizer has {tokenizer.vocabulary_size:,} tokens, but model.text.vocabulary_size="
            f"{encoder.vocabulary_size:,}: set it to at least {tokenizer.vocabulary_size}"
        )


def conditions_of(tokenizer: Tokenizer, prompts: Sequence[str], negative: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Returns prompts, and what they are to lead away from, as conditions with a row each.

    A negative prompt without a word stands for no text at all. What is cut or not known is said. Raises ValueError for
    a prompt without a word.
    """
    empty = next((i for i, prompt in enumerate(prompts) if not prompt.strip()), None)
    if empty is not None:
        raise ValueError(f"prompt {empty + 1} is empty: say what to draw")
    for message in notes_of(tokenizer, [*prompts, *negative]):
        print(message, file=sys.stderr)
    encoded = tokenizer.encode(prompts)
    found = {"text": encoded.tokens, "text_mask": encoded.mask}
    if negative:
        against = tokenizer.encode(negative)
        said = np.asarray([bool(text.strip()) for text in negative])
        found |= {f"{NEGATIVE}text": against.tokens, f"{NEGATIVE}text_mask": against.mask & said[:, None]}
    return found


def check_one_tokenizer(own: Tokenizer, other: Tokenizer, places: tuple[pathlib.Path, pathlib.Path]) -> None:
    """Raises ValueError where the runs at two places write texts by different tokenizers."""
    if own.context != other.context or own.files() != other.files():
        of_own, of_other = (f"{one.vocabulary_size} tokens in rows of {one.context}" for one in (own, other))
        raise ValueError(
            f"{places[1]} reads texts by another tokenizer ({of_other}) than {places[0]} ({of_own}), so that the same "
            "tokens are other words: use runs that were trained with one tokenizer"
        )


def check_prompts(model: Any, prompts: Any, negative: Any, n: int | None) -> tuple[list[str], list[str]]:
    """Returns a prompt and a negative one (or none at all) for each of `n` images; None: one for each of the prompts.

    A text alone stands for all images. Raises ValueError where the model reads no text, and for other numbers.
    """
    if reads_text(model) is None:
        raise ValueError(
            f"prompts given, but this {type(model).__name__} reads no text: leave them out (a class is named by its "
            "label), or sample from a run that was trained with text, such as one of the recipe shapes_text"
        )
    given = [prompts] if isinstance(prompts, str) else list(prompts)
    if not given:
        raise ValueError("prompts=[]: no prompt is given, so that nothing says what to draw: give one an image")
    n = len(given) if n is None else n
    against = [negative] if isinstance(negative, str) else list(negative or ())
    found = [texts * n if len(texts) == 1 else texts for texts in (given, against)]
    for name, texts in zip(("prompts", "negative prompts"), found, strict=True):
        if len(texts) != n and (texts or name == "prompts"):
            raise ValueError(f"{len(texts)} {name} for {n} images: give one an image, or one for all")
    return found[0], found[1]


def notes_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Says which texts are longer than the tokenizer's context, and which words it does not know."""
    different = list(dict.fromkeys(texts))
    longest = tokenizer.longest if isinstance(tokenizer, SideBySide) else None
    cut = say_cut(different, tokenizer.encode(different), longest)
    words = (
        [word for text in different for word in tokenizer.unknown(text)] if isinstance(tokenizer, KnowsWords) else []
    )
    unknown = f"not in the vocabulary, and so not followed: {', '.join(dict.fromkeys(words))}" if words else ""
    return [note for note in (cut, unknown) if note]


def say_cut(texts: Sequence[str], encoded: Encoded, length: int | None = None) -> str:
    """Says how many texts were cut, and how the first of them begins; "" where all of them fit.

    `length` is how much a text may have; None: as much as the rows.
    """
    cut = np.flatnonzero(encoded.cut)
    if not len(cut):
        return ""
    first, length = texts[cut[0]], length or encoded.tokens.shape[1]
    begin = first if len(first) <= _SHOWN else f"{first[:_SHOWN]}..."
    return f"{len(cut)} of {len(texts)} texts are longer than {length} tokens and were cut, the first is {begin!r}"
