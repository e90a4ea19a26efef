"""Rows of several tokenizers side by side, and what a run keeps of them."""

from __future__ import annotations

import numpy as np

from imagegen_jax.core.arrays.texts import EmptyText, keep_tokenizer, notes_of
from imagegen_jax.text import JoinedRows, JoinedTokenizers, Words, WordVocabulary

SHORT, LONG = Words(("a", "red", "circle"), 4), Words(("a", "red", "circle", "blue"), 6)
JOINED = JoinedRows((SHORT, LONG))


def test_rows_lie_side_by_side():
    texts = ["a red", "blue"]
    found, parts = JOINED.encode(texts), [part.encode(texts) for part in (SHORT, LONG)]
    np.testing.assert_array_equal(found.tokens, np.concatenate([part.tokens for part in parts], axis=1))
    np.testing.assert_array_equal(found.mask, np.concatenate([part.mask for part in parts], axis=1))
    assert JOINED.context == 10 and JOINED.vocabulary_size == LONG.vocabulary_size


def test_a_text_is_cut_where_no_row_has_it_whole():
    texts = ["a", "a red circle a", "a red circle a red circle"]
    found = JOINED.encode(texts)
    assert SHORT.encode(texts).cut.tolist() == [False, True, True] and found.cut.tolist() == [False, False, True]
    assert notes_of(JOINED, texts)[0].startswith(
        "1 of 3 texts are longer than 6 tokens and were cut, the first is 'a red"
    )


def test_the_empty_text_has_padding_in_each_row():
    empty = EmptyText.of(JOINED)
    assert empty.mask == tuple(JOINED.encode([""]).mask[0].tolist()) and empty.seen == empty.mask
    assert EmptyText.of(SHORT).seen == () and sum(empty.mask) == empty.length


def test_files_are_kept_apart_and_read_again(tmp_path):
    keep_tokenizer(tmp_path / "tokenizer", JOINED)
    settings = JoinedTokenizers((WordVocabulary(10, 4), WordVocabulary(10, 6)))
    assert settings.read(tmp_path / "tokenizer") == JOINED
    assert sorted(path.name for path in (tmp_path / "tokenizer").iterdir()) == ["0", "1"]
    assert settings.open(["a red circle"]).encode(["a"]).tokens.shape == (1, 10)
