"""Tokenizers of texts: rows of CLIP's and BERT's equal to those of transformers and open_clip, and words.

Reference values: tests/reference/make_text.py.
"""

import json
import sys
import types
import zlib

import numpy as np
import pytest
from prompts import checksums, prompts

from imagegen_jax.text import BytePairs, WordPieces, Words, say_cut
from imagegen_jax.text.byte_pairs import END, START, merged
from imagegen_jax.text.settings import CLIPTokenizer

FILES = {"clip": ("vocab.json", "merges.txt"), "bert": ("vocab.txt",)}


@pytest.fixture(scope="module")
def reference(root):
    with np.load(root / "tests" / "reference" / "text.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    """A folder with the files of all tokenizers."""
    place = tmp_path_factory.mktemp("text")
    for name in (name for names in FILES.values() for name in names):
        (place / name).write_bytes(reference[name].tobytes())
    return place


@pytest.fixture(scope="module")
def clip(folder):
    return BytePairs.read(folder, context=24)


@pytest.fixture(scope="module")
def bert(folder):
    return WordPieces.read(folder, context=24)


@pytest.fixture(scope="module")
def words():
    return Words.built(["a red circle", "a blue circle, small", "A red square"], size=9, context=6)


@pytest.mark.parametrize("name", FILES)
def test_ten_thousand_rows_equal_those_of_transformers(name, reference, request):
    tokenizer, texts = request.getfixturevalue(name), prompts()
    assert tokenizer.context == reference["context"] and len(texts) == 10_000
    found = tokenizer.encode(texts)
    different = np.flatnonzero(checksums(found.tokens, found.mask) != reference[name])
    assert not len(different), [texts[at] for at in different[:5]]
    assert 0.1 < found.cut.mean() < 0.9
    assert found.tokens.dtype == np.int32 and found.tokens.max() < tokenizer.vocabulary_size


@pytest.mark.parametrize("name", ["clip", "bert", "words"])
def test_rows_have_one_length_and_say_what_was_cut(name, request):
    tokenizer = request.getfixturevalue(name)
    texts = ["a red circle", "", "a red circle " * 40]
    tokens, mask, cut = encoded = tokenizer.encode(texts)
    assert tokens.shape == mask.shape == (3, tokenizer.context) and cut.tolist() == [False, False, True]
    assert mask[1].sum() == 2 and mask[2].all() and tokens[2, -1] == tokens[1, 1] and (mask[:, 0]).all()
    assert "1 of 3 texts are longer than" in say_cut(texts, encoded) and "'a red circle a red" in say_cut(
        texts, encoded
    )
    assert say_cut(texts[:2], tokenizer.encode(texts[:2])) == ""
    assert tokenizer.encode([]).tokens.shape == (0, tokenizer.context)


@pytest.mark.parametrize("name", ["clip", "bert", "words"])
def test_kept_files_give_the_tokenizer_again(name, request, tmp_path):
    tokenizer = request.getfixturevalue(name)
    for file, content in tokenizer.files().items():
        (tmp_path / file).write_bytes(content)
    again = type(tokenizer).read(tmp_path, tokenizer.context)
    texts = prompts(50)
    np.testing.assert_array_equal(again.encode(texts).tokens, tokenizer.encode(texts).tokens)
    assert again.vocabulary_size == tokenizer.vocabulary_size and again.files() == tokenizer.files()


def test_padding_and_entities_of_clip_can_be_chosen(folder, clip):
    ids = clip.vocabulary
    assert clip.encode(["&amp;amp;"]).tokens[0, :3].tolist() != [ids[START], ids["&</w>"], ids[END]]
    other = BytePairs.read(folder, context=24, padding="!", entities=True)
    assert other.encode(["&amp;amp;"]).tokens[0].tolist() == [ids[START], ids["&</w>"], ids[END]] + [ids["!"]] * 21


def test_halves_of_surrogates_are_no_error(clip, bert):
    for tokenizer in (clip, bert):
        assert tokenizer.tokens_of("a\ud800b") == tokenizer.tokens_of("a\ufffdb")
        assert tokenizer.tokens_of("\ud83d\ude00") == tokenizer.tokens_of("😀")


def test_pairs_are_merged_by_rank_then_place():
    ranks = {("a", "a"): 0, ("b", "c"): 1, ("aa", "aa"): 2, ("a", "bc"): 3}
    assert merged("aaaaabc", ranks) == ["aaaa", "abc"]
    assert merged("", ranks) == [] and merged("x", ranks) == ["x"]


def test_a_long_word_takes_no_long_time(clip):
    assert len(clip.tokens_of("antidisestablishment" * 5_000)) > 5_000


def test_words_are_the_most_frequent_then_by_alphabet(words):
    assert words.words == ("a", "circle", "red", ",", "blue") and words.vocabulary_size == 9
    assert words.encode(["A blue, round"]).tokens.tolist() == [[2, 4, 8, 7, 1, 3]]
    assert words.encode(["red"]).tokens.tolist() == [[2, 6, 3, 0, 0, 0]]
    assert words.unknown("a round red thing") == ("round", "thing")


@pytest.mark.parametrize(
    ("kind", "files", "message"),
    [
        (BytePairs, {}, "holds no vocab.json and no merges.txt: CLIP's tokenizer needs"),
        (BytePairs, {"vocab.json": "{}"}, "holds no merges.txt"),
        (WordPieces, {}, "holds no vocab.txt"),
        (Words, {}, "holds no words.txt"),
        (BytePairs, {"vocab.json": "{", "merges.txt": ""}, "is no JSON"),
        (BytePairs, {"vocab.json": "{}", "merges.txt": "version https://git-lfs.github.com/spec/v1\n"}, "of Git LFS"),
        (BytePairs, {"vocab.json": '{"a": "b"}', "merges.txt": ""}, "does not give each token a number"),
        (BytePairs, {"vocab.json": "{}", "merges.txt": ""}, "has no <|startoftext|>"),
        (
            BytePairs,
            {"vocab.json": '{"<|startoftext|>": 0, "<|endoftext|>": 1}', "merges.txt": "#version: 0.2\na b\n"},
            "merges 'a b'",
        ),
        (WordPieces, {"vocab.txt": "[PAD]\n[UNK]\n"}, r"has no \[CLS\], \[SEP\], \[MASK\]"),
        (Words, {"words.txt": "red\nred\n"}, "is not a word a line"),
        (Words, {"words.txt": ""}, "it is empty"),
    ],
)
def test_wrong_files_are_refused(kind, files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message.replace("|", r"\|")):
        kind.read(tmp_path)


def test_sizes_without_room_are_refused():
    with pytest.raises(ValueError, match="context=1 has no room"):
        Words(("a",), context=1).encode(["a"])
    with pytest.raises(ValueError, match="size=4"):
        Words.built(["a"], size=4)
    with pytest.raises(ValueError, match="without a word"):
        Words.built(["", " "])


def test_texts_cleaned_as_where_clip_was_trained_have_the_tokens_of_open_clip(folder, reference, monkeypatch):
    """With what ftfy makes of them, which is committed: it is not installed everywhere."""
    fixed = json.loads(reference["trained"].tobytes())
    monkeypatch.setitem(sys.modules, "ftfy", types.SimpleNamespace(fix_text=lambda text: fixed[text] if text else ""))
    tokenizer, texts = CLIPTokenizer(str(folder), ftfy=True).open(()), list(fixed)
    rows = (np.asarray(tokenizer.tokens_of(text), "<i4") for text in texts)
    found = np.asarray([zlib.crc32(row.tobytes()) for row in rows], np.uint32)
    different = np.flatnonzero(found != reference["open_clip"])
    assert not len(different) and len(found) > 700, [texts[at] for at in different[:5]]
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ImportError, match=r"pip install 'imagegen_jax\[clip\]'"):
        CLIPTokenizer(str(folder), ftfy=True).open(())
