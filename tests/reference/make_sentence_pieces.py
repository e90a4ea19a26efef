"""Reference values from transformers for tests/text: rows of T5's tokenizer for 10,000 texts.

    python3.11 -m venv .venv-text
    .venv-text/bin/pip install transformers==5.24.0 sentencepiece==0.2.3 protobuf==7.36.2
    .venv-text/bin/python tests/reference/make_sentence_pieces.py

Writes sentence_pieces.npz beside this file: a small model of sentencepiece, with T5's special tokens and normalisation,
since T5's own is in no package, and a checksum of each row.
"""

from __future__ import annotations

import io
import pathlib
import sys
import tempfile

import numpy as np
import sentencepiece
from transformers import T5Tokenizer

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "text"))
from prompts import WORDS, checksums, prompts  # noqa: E402

CONTEXT = 24  # rows short enough that some texts are cut
TOGETHER = 7  # words of a sentence of the corpus


def small_model() -> bytes:
    """Trains a unigram model on sentences of the words of `prompts`."""
    starts = range(len(WORDS) - TOGETHER)
    sentences = (" ".join(WORDS[at : at + TOGETHER]).translate({0: " ", 10: " "}) for at in starts)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*sentences] * 3), model_writer=model, vocab_size=500, hard_vocab_limit=False,
        character_coverage=1.0, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def main() -> None:
    """Computes and writes all values."""
    model, folder = small_model(), pathlib.Path(tempfile.mkdtemp())
    (folder / "spiece.model").write_bytes(model)
    tokenizer = T5Tokenizer.from_pretrained(folder)
    found = tokenizer(prompts(), padding="max_length", truncation=True, max_length=CONTEXT)
    rows = checksums(np.asarray(found["input_ids"], np.int32), np.asarray(found["attention_mask"]))
    values = {"model": np.frombuffer(model, np.uint8), "t5": rows, "context": np.int32(CONTEXT)}
    np.savez_compressed(FOLDER / "sentence_pieces.npz", **values)


if __name__ == "__main__":
    main()
