"""Codes as data: the rows of batches, what stands for their tokenizer, and what is wrong with files."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from imagegen_jax.data import Codes, CodeSet, Dataset, parse_source
from imagegen_jax.data.pictures.describe import describe

CODES = np.random.default_rng(0).integers(0, 300, (12, 2, 3)).astype(np.uint16)
GOOD = {
    "codes": CODES, "codebook_size": np.int64(300), "tokenizer": np.str_("abc"), "label": np.arange(12) % 3,
    "class_names": np.array(["a", "b", "c"]),
    "made_of": np.str_('{"run": "runs/a", "step": 7, "data": "Digits", "mirror": true}'),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts with an empty cache."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))


def put(path: pathlib.Path, **changes) -> CodeSet:
    """The codes of a file with some arrays changed, or left out where they are None."""
    np.savez(path, **{name: array for name, array in (GOOD | changes).items() if array is not None})
    return parse_source(f"codes:{path}").open()


def test_batches_have_the_rows_that_images_would_have(tmp_path):
    """The same order by seed and step, so that a model learns the same from codes as from images."""
    found = put(tmp_path / "a.npz")
    images = Dataset(np.arange(12, dtype=np.uint8)[:, None, None, None], np.asarray(GOOD["label"], np.int32), ("a",))
    for step, seed, rows in ((0, 0, None), (3, 5, None), (3, 5, slice(2, 4))):
        batch, of_images = found.batch(step, 5, seed, rows), images.batch(step, 5, seed, rows)
        assert set(batch) == {"codes", "label"} and batch["codes"].dtype == batch["label"].dtype == np.int32
        np.testing.assert_array_equal(batch["codes"], CODES[of_images["image"].ravel()])
        np.testing.assert_array_equal(batch["label"], of_images["label"])
    with pytest.raises(ValueError, match="step and seed must be >= 0"):
        found.batch(-1, 5)


def test_what_a_set_of_codes_tells(tmp_path):
    found = put(tmp_path / "a.npz")
    assert (len(found), found.code_shape, found.codebook_size, found.tokenizer) == (12, (2, 3), 300, "abc")
    assert found.class_names == ("a", "b", "c") and found.num_classes == 3 and found.made_of["step"] == 7
    assert isinstance(found.codes, np.memmap) and set(found.contents()) == {"codes", "labels", "tokenizer"}
    other = put(tmp_path / "a.npz", codes=CODES[::-1], tokenizer=np.str_("def"))
    assert {k for k, v in found.contents().items() if other.contents()[k] != v} == {"codes", "tokenizer"}
    bare = put(tmp_path / "b.npz", label=None, class_names=None, made_of=np.str_("no JSON"))
    assert bare.labels is None and set(bare.batch(0, 2)) == {"codes"} and bare.made_of == {}
    assert put(tmp_path / "c.npz", class_names=None).class_names == ("0", "1", "2")
    text = describe(found, "codes:a.npz")
    used = len(np.unique(CODES))
    assert (
        "12 x 2x3 codes" in text
        and f"{used} of 300 codes used" in text
        and "tokenizer           abc, of runs/a at step 7\nmade of             Digits, mirrored ones too\n" in text
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokenizer": None}, "it has no tokenizer, but class_names"),
        ({"codes": None}, "it has no codes"),
        ({"codes": CODES.astype(float)}, r"codes is float64 \[12, 2, 3\], not integers \[n ...\]"),
        ({"codes": CODES[0, 0]}, r"codes is uint16 \[3\]"),
        ({"codes": CODES[:0]}, r"codes is uint16 \[0, 2, 3\]"),
        ({"codes": CODES.astype(int) - 5}, "codes from -5 to .*, but codebook_size is 300"),
        ({"codebook_size": np.int64(9)}, "codes from .*, but codebook_size is 9"),
        ({"codebook_size": np.int64(0)}, "not an integer above 0"),
        ({"codebook_size": np.arange(3)}, "not an integer above 0"),
        ({"tokenizer": np.int64(7)}, r"tokenizer is int64 \[\], not text"),
        ({"label": np.arange(5)}, r"label is int64 \[5\], not integers from 0, \[12\]"),
        ({"label": np.arange(12) % 4}, "label goes to 3, but class_names has 3 names"),
        ({"label": np.arange(12) - 1}, "not integers from 0"),
    ],
)
def test_wrong_arrays(tmp_path, changes, said):
    """By name, type and shape, and nothing is left in the cache."""
    with pytest.raises(ValueError, match=said) as caught:
        put(tmp_path / "a.npz", **changes)
    assert "a.npz" in str(caught.value)


def test_wrong_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*gone.npz"):
        Codes(str(tmp_path / "gone.npz")).open()
    (tmp_path / "text.npz").write_text("no codes")
    with pytest.raises(ValueError, match="text.npz does not hold codes as `imagegen encode` writes them, or it is dam"):
        Codes(str(tmp_path / "text.npz")).open()
    with pytest.raises(ValueError, match="a folder, not a file"):
        Codes(str(tmp_path)).open()
