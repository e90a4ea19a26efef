"""Rows of several tokenizers, one after another, for text encoders that read a text together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from imagegen_jax.core.arrays.texts import Encoded, Tokenizer


@dataclasses.dataclass(frozen=True)
class JoinedRows:
    """Writes each text by every tokenizer of `parts`; see `nn.text_encoders.joined.JoinedText`."""

    parts: tuple[Tokenizer, ...]

    @property
    def vocabulary_size(self) -> int:
        """That of the tokenizer with most tokens."""
        return max(part.vocabulary_size for part in self.parts)

    @property
    def context(self) -> int:
        """The length of all rows together."""
        return sum(part.context for part in self.parts)

    @property
    def longest(self) -> int:
        """The length of the longest row."""
        return max(part.context for part in self.parts)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Writes each text as a row. A text is cut where no tokenizer has it whole."""
        found = [part.encode(texts) for part in self.parts]
        tokens, mask = (np.concatenate([one[i] for one in found], axis=1) for i in range(2))
        return Encoded(tokens, mask, np.all([one.cut for one in found], axis=0))

    def files(self) -> Mapping[str, bytes]:
        """Returns the files of each tokenizer, in a folder of its number."""
        return {f"{i}/{name}": content for i, part in enumerate(self.parts) for name, content in part.files().items()}
