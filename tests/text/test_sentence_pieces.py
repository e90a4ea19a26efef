"""T5's tokenizer: rows equal to those of transformers. Reference values: tests/reference/make_sentence_pieces.py."""

import io
import re
import sys

import numpy as np
import pytest
import sentencepiece
from prompts import checksums, prompts

from imagegen_jax.text import SentencePieces

# Where transformers differs from the library: it takes U+0085 for a space at an end, breaks ties between equal splits
# of "!!!" the other way, and loses marks that combine with what is normalised before them.
OTHERWISE = re.compile("\x85|!!!|\u2164\u0309|e\u0301\u0e31")


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests" / "reference" / "sentence_pieces.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def t5(reference):
    return SentencePieces(reference["model"].tobytes(), context=int(reference["context"]))


def test_rows_equal_those_of_transformers(t5, reference):
    texts = prompts()
    found = t5.encode(texts)
    same = checksums(found.tokens, found.mask) == reference["t5"]
    plain = np.asarray([not OTHERWISE.search(text) for text in texts])
    assert plain.sum() > 9_000 and same[plain].all()
    assert 0.1 < found.cut.mean() < 0.9 and found.tokens.dtype == np.int32


def test_special_tokens_are_named_in_texts(t5):
    last = t5.vocabulary_size - 1
    assert t5.tokens_of("<pad></s><unk>") == [0, 1, 2]
    assert t5.tokens_of("<extra_id_0><extra_id_99>") == [last, last - 99]
    assert t5.tokens_of("a<extra_id_1>b") == [*t5.tokens_of("a"), last - 1, *t5.tokens_of("b")]


def test_rows_end_with_the_end_and_say_what_was_cut(t5):
    tokens, mask, cut = t5.encode(["", "a red circle", "a red circle " * 40])
    assert tokens[0].tolist() == [1] + [0] * (t5.context - 1) and mask.sum(1).tolist()[0] == 1
    assert cut.tolist() == [False, False, True] and tokens[2, -1] == 1 and mask[2].all()
    whole = t5.tokens_of("a red circle")
    assert SentencePieces(t5.model, context=len(whole) + 1).encode(["a red circle"]).cut.tolist() == [False]
    assert SentencePieces(t5.model, context=len(whole)).encode(["a red circle"]).cut.tolist() == [True]


def test_texts_may_be_put_into_small_letters(t5):
    """As PixArt has it."""
    small = SentencePieces(t5.model, t5.context, lower=True)
    for found, wanted in zip(small.encode(["  A Red CIRCLE\n"]), t5.encode(["a red circle"]), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert (t5.encode(["  A Red CIRCLE\n"]).tokens != t5.encode(["a red circle"]).tokens).any()


def test_halves_of_surrogates_are_no_error(t5):
    assert t5.tokens_of("a\ud800b") == t5.tokens_of("a\ufffdb")


def test_the_kept_file_gives_the_tokenizer_again(t5, tmp_path):
    for name, content in t5.files().items():
        (tmp_path / name).write_bytes(content)
    assert SentencePieces.read(tmp_path, t5.context) == t5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no spiece.model: T5's tokenizer needs"),
        (b"<!DOCTYPE html>", "spiece.model: it is a web page"),
        (b"\x01\x02 other bytes", "no model of sentencepiece"),
    ],
)
def test_wrong_files_are_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        SentencePieces.read(tmp_path)


def test_a_model_without_padding_is_refused(tmp_path):
    model = io.BytesIO()
    settings = {"vocab_size": 8, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["a b c"]), model_writer=model, **settings)
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    with pytest.raises(ValueError, match="no token for padding"):
        SentencePieces.read(tmp_path)


def test_without_the_library_the_extra_is_named(t5, tmp_path, monkeypatch):
    (tmp_path / "spiece.model").write_bytes(t5.model + b"\n")  # another one than is cached
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"pip install 'imagegen_jax\[t5\]'"):
        SentencePieces.read(tmp_path)
