"""Images with captions, written as tokens into batches."""

from __future__ import annotations

import dataclasses
import pathlib

from imagegen_jax.core.arrays.texts import Tokenizer
from imagegen_jax.data.formats.shapes import Shapes
from imagegen_jax.data.source import Dataset, Source
from imagegen_jax.text.settings import AnyTokenizer, WordVocabulary


@dataclasses.dataclass(frozen=True)
class Captioned:
    """The images of a source that has captions, with a caption of each written into batches by a tokenizer.

    The default tokenizer knows the words of the captions. A run keeps the tokenizer's files, so that prompts can be
    encoded where the data are not at hand.
    """

    source: Source = Shapes()
    tokenizer: AnyTokenizer = WordVocabulary()

    def open(self) -> Dataset:
        """Opens source and tokenizer. Raises ValueError where the source has no captions, and what both raise."""
        dataset = self.source.open()
        if dataset.captions is None:
            raise ValueError(
                f"{self.source} has no captions: name a source that has, such as Shapes (--data captioned:shapes) or "
                "a folder with a metadata.jsonl (--data captioned:FOLDER)"
            )
        if len(dataset):
            dataset.captions[0]  # reads them, so that an image without one is named now
        return dataclasses.replace(dataset, tokenizer=self.tokenizer.open(dataset.all_captions()))

    def kept_tokenizer(self, folder: pathlib.Path) -> Tokenizer:
        """Reads the tokenizer that a run keeps in `folder`. Raises FileNotFoundError where a file is missing."""
        return self.tokenizer.read(folder)
