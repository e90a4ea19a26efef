"""Byte-pair encoding as CLIP has it (Radford et al. 2021, arXiv 2103.00020, section 2.4; Sennrich et al. 2016).

A text is cleaned and split into words, numbers' digits and runs of signs. Each is a row of bytes, of which the pair
that stands first in the list of merges becomes one, again and again.

Cleaning is that of transformers' CLIPTokenizer: Unicode's form NFC, one space for many, lower case letter by letter.
CLIP's own training, and open_clip, clean otherwise, which `ftfy` does: the library of this name mends text that was
decoded wrongly, and turns curled quotes, ligatures and wide letters into plain ones; HTML's entities become characters
(`entities` is this alone); a sigma at the end of a Greek word becomes a final one; U+001C to U+001F are spaces, and
U+0345 is left out.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import html
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence

from imagegen_jax.core.files.regular import Path
from imagegen_jax.text.characters import kind, lower
from imagegen_jax.text.tokenizer import Encoded, around, read_all, rows_of, whole_characters

START, END = "<|startoftext|>", "<|endoftext|>"
_VOCABULARY, _MERGES = "vocab.json", "merges.txt"
_LAST = "</w>"  # at the end of a word's last token
_NAMED = re.compile(r"<\|(?:startoftext|endoftext)\|>")  # as CLIP's expression has them; further split into three
_SHORT = re.compile(r"'(?:s|t|re|ve|m|ll|d)")
_RUN = re.compile("L+|N|O+")  # of kinds of characters
_IOTA_BELOW = "\u0345"  # neither a letter nor a sign to CLIP's expression, which ignores case: it is left out


@dataclasses.dataclass(frozen=True, eq=False)
class BytePairs:
    """The tokenizer of CLIP, of the files that its makers publish: `BytePairs.read(folder)`.

    Rows are `START`, the text, `END`, and `padding` up to the length `context`: CLIP's own rows are filled with "!",
    which is token 0 there, those of transformers and Stable Diffusion 1 with `END`. Where a text holds the name of a
    special token, it becomes that token.
    """

    vocabulary: Mapping[str, int]
    ranks: Mapping[tuple[str, str], int]  # of a pair: the lower, the earlier it is merged
    contents: Mapping[str, bytes]
    context: int = 77
    padding: str = END
    entities: bool = False  # whether HTML's entities become characters, twice, as where CLIP was trained
    ftfy: bool = False  # whether all is cleaned as there, with the help of ftfy

    @classmethod
    def read(
        cls, folder: Path, context: int = 77, padding: str = END, entities: bool = False, ftfy: bool = False
    ) -> BytePairs:
        """Reads vocab.json and merges.txt of a folder.

        Raises FileNotFoundError where one is missing, ValueError where they are not what their names say, and
        ImportError where ftfy is asked for and not installed.
        """
        if ftfy:
            _fixed("")
        contents = read_all(folder, (_VOCABULARY, _MERGES), "CLIP's tokenizer")
        vocabulary = _vocabulary(folder, contents[_VOCABULARY])
        for name in (START, END, padding):
            if name not in vocabulary:
                raise ValueError(f"{folder}/{_VOCABULARY} has no {name}: give that of a CLIP, or another padding")
        ranks = _ranks(folder, contents[_MERGES], vocabulary)
        return cls(vocabulary, ranks, contents, context, padding, entities, ftfy)

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens."""
        return max(self.vocabulary.values()) + 1

    def files(self) -> Mapping[str, bytes]:
        """Returns vocab.json and merges.txt as they were read."""
        return self.contents

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Writes each text as a row. Raises ValueError where `context` is less than 2."""
        start, end, padding = (self.vocabulary[name] for name in (START, END, self.padding))
        return rows_of((self.tokens_of(text) for text in texts), self.context, start, end, padding)

    def tokens_of(self, text: str) -> list[int]:
        """Returns all tokens of a text, without start and end."""
        text = whole_characters(text)
        text = html.unescape(html.unescape(text)) if self.entities and not self.ftfy else text
        tokens: list[int] = []
        for part in around(text, {name: self.vocabulary[name] for name in (START, END)}):
            if isinstance(part, int):
                tokens.append(part)
            else:
                words = words_as_trained(part) if self.ftfy else words_of(part)
                tokens += [token for word in words for token in self._merged(word)]
        return tokens

    @functools.cached_property
    def _known(self) -> dict[str, tuple[int, ...]]:
        return {}  # words that were merged before

    def _merged(self, word: str) -> tuple[int, ...]:
        if word in self._known:
            return self._known[word]
        letters = [_LETTERS[byte] for byte in word.encode()]
        letters[-1] += _LAST
        unknown = self.vocabulary[END]
        letters = [letter if letter in self.vocabulary else "" for letter in letters]  # no pair of "" is merged
        found = tuple(self.vocabulary[part] if part else unknown for part in merged(letters, self.ranks))
        if len(self._known) < _MOST_KNOWN:
            self._known[word] = found
        return found


_MOST_KNOWN = 1 << 16


def words_of(text: str) -> list[str]:
    """Cleans a text, and splits it into words, digits and runs of signs; spaces are left out."""
    text = "".join(lower(character) for character in unicodedata.normalize("NFC", text))
    return _split(text, "".join(kind(character) for character in text))


def words_as_trained(text: str) -> list[str]:
    """Does what `words_of` does as CLIP's own code does it. Raises ImportError where ftfy is not installed."""
    text = " ".join(html.unescape(html.unescape(_fixed(text))).split()).lower()
    return _split(text, "".join(" " if character == _IOTA_BELOW else kind(character) for character in text))


def _fixed(text: str) -> str:
    try:
        import ftfy
    except ImportError as error:
        raise ImportError(
            "CLIP's own cleaning of texts needs ftfy: pip install 'imagegen_jax[clip]', or set ftfy to False"
        ) from error
    fixed: str = ftfy.fix_text(text)
    return fixed


def _split(text: str, kinds: str) -> list[str]:
    words, at = [], 0
    while at < len(text):
        if named := _NAMED.match(text, at):
            words += ["<|", named[0][2:-2], "|>"]
            at = named.end()
        elif found := _SHORT.match(text, at) or _RUN.match(kinds, at):
            words.append(text[at : found.end()])
            at = found.end()
        else:
            at += 1  # a space
    return words


def merged(parts: Sequence[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Merges neighbours, of all pairs always the one of the lowest rank, of equal ones the first.

    A heap holds the pairs, so that a word of n letters takes n log n steps; pairs that are no longer there are passed
    over when they come up.
    """
    joined = list(parts)
    before, after = list(range(-1, len(joined) - 1)), list(range(1, len(joined) + 1))
    waiting = [
        (ranks[pair], at, pair) for at, pair in enumerate(zip(joined, joined[1:], strict=False)) if pair in ranks
    ]
    heapq.heapify(waiting)
    gone = [False] * len(joined)
    while waiting:
        _, at, (left, right) = heapq.heappop(waiting)
        other = after[at]
        if gone[at] or other >= len(joined) or (joined[at], joined[other]) != (left, right):
            continue
        joined[at], gone[other], after[at] = left + right, True, after[other]
        if after[at] < len(joined):
            before[after[at]] = at
        for one in (before[at], at):
            if one >= 0 and after[one] < len(joined):
                pair = (joined[one], joined[after[one]])
                if pair in ranks:
                    heapq.heappush(waiting, (ranks[pair], one, pair))
    return [part for part, left_out in zip(joined, gone, strict=True) if not left_out]


def letters_of_bytes() -> dict[int, str]:
    """Returns the printable letter that stands for each byte in the files (Radford et al. 2019, GPT-2)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + at) for at, byte in enumerate(others)}


_LETTERS = letters_of_bytes()


def _vocabulary(folder: Path, content: bytes) -> dict[str, int]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{folder}/{_VOCABULARY} is no JSON ({error}): fetch it again") from error
    if not isinstance(found, dict) or not all(type(token) is int and token >= 0 for token in found.values()):
        raise ValueError(f"{folder}/{_VOCABULARY} does not give each token a number: fetch it again")
    return found


def _ranks(folder: Path, content: bytes, vocabulary: Mapping[str, int]) -> dict[tuple[str, str], int]:
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{folder}/{_MERGES} is no text ({error}): fetch it again") from error
    lines = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
    ranks: dict[tuple[str, str], int] = {}
    for rank, line in enumerate(lines):
        left, _, right = line.partition(" ")
        if not left or not right or " " in right or left + right not in vocabulary:
            raise ValueError(
                f"{folder}/{_MERGES} merges {line!r}, which is no pair or not in {_VOCABULARY}: give both of one model"
            )
        ranks[left, right] = rank
    return ranks
